/** The table's runs, those that are selected, and their colours. */
import { Problem, type Client, type RunsQuery } from '../api/client';
import type { News } from '../api/live';
import { colourOf } from '../lib/colours';
import { columnOf, neededFor } from '../lib/columns';
import { urlParts } from '../lib/names';
import { merged, parseSort } from '../lib/order';
import { withRuns } from '../lib/selection';
import { withRun, type View } from '../lib/view';
import type { Clock } from './clock.svelte';
import { Loading } from './loading.svelte';
import { rowsOf } from './table.svelte';
import type { ViewState } from './view.svelte';

/** One row: the run's name, and its values by column. */
export interface Row {
  readonly name: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/** Always asked for, whatever columns are shown; `age` beside `created_at` tells the service's time. */
export const OWN_COLUMNS = ['name', 'display_name', 'status', 'archived', 'created_at', 'age'] as const;
const PAGE = 5_000;
/** News come several times a second; the table asks for what changed this often at most. */
const RELOAD_MS_MIN = 1_000;
/** When so many runs changed, the whole table is not much more. */
const CHANGED_MAX = 100;
/** Columns that the service answers in one table. */
const COLUMNS_MAX = 100;

export class Runs {
  /** Rows as far as they are loaded, in the table's order. */
  rows = $state.raw<readonly Row[]>([]);
  /** Whether there are more rows behind the last one. */
  more = $state(false);
  /** Whether any answer came yet: until then nothing can be said of what is not there. */
  known = $state(false);
  /** What the service says is wrong with filter, sort or columns; the rows are then those of the question before. */
  refusal = $state.raw<Problem | null>(null);
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
  /** Runs of which there was news since the table was asked for; null: any may have changed. */
  private pending: Set<string> | null = new Set();
  /** What is asked for, what the rows are the answer to, and what the service can't take. */
  private query: RunsQuery | null = null;
  private good: RunsQuery | null = null;
  private refused: RunsQuery | null = null;

  constructor(
    private readonly client: Client,
    private readonly view: ViewState,
    private readonly clock: Clock,
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

  selectMany(runs: Iterable<string>, selected: boolean): void {
    this.view.update({ selection: withRuns(this.view.current.selection, runs, selected) });
  }

  /** Select all that the filter finds, or nothing. */
  selectAll(selected: boolean): void {
    this.view.update({ selection: selected ? { kind: 'all', but: [] } : { kind: 'some', runs: [] } });
  }

  /** Load the table anew for its question: the rows that are there stay until the answer comes. */
  load(question: string): void {
    const query = (this.query = JSON.parse(question) as RunsQuery);
    this.loading.replace((signal) => this.whole(query, 0, signal));
  }

  /** Load the rows behind the last one. */
  loadMore(): void {
    const cursor = this.cursor;
    if (cursor === null || this.loading.busy) return;
    const query = this.good;
    this.loading.follow(async (signal) => {
      if (query !== this.good || cursor !== this.cursor) return;
      const page = await this.client.runs({ ...query, cursor }, signal);
      this.rows = [...this.rows, ...rowsOf(page)];
      this.end(page.cursor);
    });
  }

  /** Some runs changed: what the table shows of them is asked for again, soon. */
  changed(news: News): void {
    if (news === null) this.pending = null;
    else for (const run of [...news.runs, ...news.deleted]) this.pending?.add(run);
    this.timer ??= setTimeout(() => this.catchUp(), RELOAD_MS_MIN);
  }

  /** Ask now for what changed. */
  catchUp(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    this.loading.follow((signal) => this.news(signal));
  }

  private async news(signal: AbortSignal): Promise<void> {
    const query = this.refused === this.query ? this.good : this.query;
    if (!query) return;
    const pending = this.pending;
    const parts = pending && urlParts([...pending]);
    if (!pending || !parts || pending.size > CHANGED_MAX || parts.length > 1 || query !== this.good) {
      await this.whole(query, this.rows.length, signal);
      return;
    }
    if (!parts.length) return;
    this.pending = new Set();
    try {
      const page = await this.client.runs({ ...query, run: parts[0]! }, signal);
      this.rows = merged(this.rows, rowsOf(page), parts[0]!, parseSort(query.sort ?? ''), this.more);
    } catch (error) {
      for (const run of pending) this.pending?.add(run);
      throw error;
    }
  }

  private async whole(query: RunsQuery, wanted: number, signal: AbortSignal): Promise<void> {
    const pending = this.pending;
    this.pending = new Set();
    try {
      await this.read(query, wanted, signal);
      this.good = query;
      if (query === this.query) this.refusal = this.refused = null;
    } catch (error) {
      this.pending = pending && this.pending && new Set([...pending, ...this.pending]);
      if (error instanceof Problem && error.field !== null && !signal.aborted) {
        this.refusal = error;
        this.refused = query;
      }
      throw error;
    }
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
    const { created_at: created, age } = rows[0]?.values ?? {};
    if (typeof created === 'number' && typeof age === 'number') this.clock.set(created + age);
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
  const shown = view.columns.flatMap((text) => [text, ...neededFor(columnOf(text))]);
  const columns = new Set<string>([
    ...OWN_COLUMNS,
    ...parseSort(view.sort).map(({ column }) => column),
    ...(view.rowGroup ? [`config.${view.rowGroup}`] : []),
    ...shown,
  ]);
  const query: RunsQuery = { columns: [...columns].slice(0, COLUMNS_MAX).join(','), limit: PAGE };
  if (view.project !== null) query.project = view.project;
  if (view.filter.trim()) query.filter = view.filter;
  if (view.sort) query.sort = view.sort;
  if (!view.archived) query.archived = false;
  return query;
}
