/** The table's runs, those that are selected, and their colours. */
import type { Client, RunsQuery } from '../api/client';
import type { News } from '../api/live';
import { colourOf } from '../lib/colours';
import { withRun, type View } from '../lib/view';
import { Loading } from './loading.svelte';
import type { ViewState } from './view.svelte';

/** One row: the run's name, and its values by column. */
export interface Row {
  readonly name: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/** Always asked for, whatever columns are shown. */
export const OWN_COLUMNS = ['name', 'display_name', 'status', 'archived', 'project'] as const;
const PAGE = 1000;
/** News come several times a second; the table asks again this often at most. */
const RELOAD_MS_MIN = 1_000;

export class Runs {
  /** Rows as far as they are loaded, in the table's order. */
  rows = $state.raw<readonly Row[]>([]);
  /** Whether there are more rows behind the last one. */
  more = $state(false);
  /** Whether any answer came yet: until then nothing can be said of what is not there. */
  known = $state(false);
  readonly loading = new Loading();
  /** Names of the selected runs, in the table's order; those not in the table come last. The same array while it is so. */
  readonly selected: readonly string[] = $derived.by(() => this.chosen());
  /** What the table asks for, as JSON: a text that stays the same when the rest of the view changes. */
  readonly question: string = $derived.by(() => JSON.stringify(queryOf(this.view.current)));
  private readonly selection = $derived.by(() => this.view.current.selection);
  private readonly named = $derived.by(
    () => new Set(this.selection.kind === 'some' ? this.selection.runs : this.selection.but),
  );
  private before: readonly string[] = [];
  private cursor: string | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly client: Client,
    private readonly view: ViewState,
  ) {}

  /** The run's colour, by its name or as chosen. */
  colour(run: string): string {
    return colourOf(run, this.view.current.colours);
  }

  /** Choose a colour (#rrggbb), or null for that of the name. */
  setColour(run: string, colour: string | null): void {
    const { [run]: _, ...others } = this.view.current.colours;
    this.view.update({ colours: colour === null ? others : { ...others, [run]: colour } });
  }

  isSelected(run: string): boolean {
    return this.named.has(run) === (this.selection.kind === 'some');
  }

  select(run: string, selected: boolean): void {
    this.view.update({ selection: withRun(this.view.current.selection, run, selected) });
  }

  /** Select all that the filter finds, or nothing. */
  selectAll(selected: boolean): void {
    this.view.update({ selection: selected ? { kind: 'all', but: [] } : { kind: 'some', runs: [] } });
  }

  /** Load the table anew for its question: the rows that are there stay until the answer comes. */
  load(question: string): void {
    this.loading.replace((signal) => this.read(JSON.parse(question) as RunsQuery, 0, signal));
  }

  /** Load the rows behind the last one. */
  loadMore(): void {
    const cursor = this.cursor;
    if (cursor === null || this.loading.busy) return;
    const query = { ...queryOf(this.view.current), cursor };
    this.loading.follow(async (signal) => {
      const page = await this.client.runs(query, signal);
      this.rows = [...this.rows, ...rowsOf(page)];
      this.end(page.cursor);
    });
  }

  /** Some runs changed: the rows that are shown are asked for again, soon. */
  changed(_news: News): void {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      const query = queryOf(this.view.current);
      this.loading.follow((signal) => this.read(query, this.rows.length, signal));
    }, RELOAD_MS_MIN);
  }

  private async read(query: RunsQuery, wanted: number, signal: AbortSignal): Promise<void> {
    const rows: Row[] = [];
    let cursor: string | null = null;
    do {
      const asked: RunsQuery = cursor === null ? query : { ...query, cursor };
      const page = await this.client.runs(asked, signal);
      rows.push(...rowsOf(page));
      cursor = page.cursor;
    } while (cursor !== null && rows.length < wanted);
    this.rows = rows;
    this.end(cursor);
  }

  private end(cursor: string | null): void {
    this.cursor = cursor;
    this.more = cursor !== null;
    this.known = true;
  }

  private chosen(): readonly string[] {
    const chosen = this.rows.map((row) => row.name).filter((name) => this.isSelected(name));
    if (this.selection.kind === 'some') {
      const there = new Set(chosen);
      chosen.push(...this.selection.runs.filter((name) => !there.has(name)));
    }
    const same = chosen.length === this.before.length && chosen.every((name, i) => name === this.before[i]);
    return same ? this.before : (this.before = chosen);
  }
}

function queryOf(view: View): RunsQuery {
  const columns = [
    ...new Set<string>([
      ...OWN_COLUMNS,
      ...view.columns,
      ...(view.rowGroup ? [`config.${view.rowGroup}`] : []),
    ]),
  ];
  const query: RunsQuery = { columns: columns.join(','), limit: PAGE };
  if (view.project !== null) query.project = view.project;
  if (view.filter) query.filter = view.filter;
  if (view.sort) query.sort = view.sort;
  if (!view.archived) query.archived = false;
  return query;
}

function rowsOf(page: { columns: string[]; rows: unknown[][] }): Row[] {
  return page.rows.map((row) => {
    const values = Object.fromEntries(page.columns.map((column, i) => [column, row[i]]));
    return { name: String(values['name']), values };
  });
}
