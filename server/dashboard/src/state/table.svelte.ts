/** Values of all runs that the view's filter finds, kept up to date by asking again for those that changed. */
import type { Client, RunsQuery } from '../api/client';
import type { News } from '../api/live';
import type { View } from '../lib/view';
import { Loading } from './loading.svelte';
import type { Row } from './runs.svelte';

/** Rows that are loaded at most. */
export const ROWS_MAX = 5_000;
/** Rows of a page, so that a first answer is never far away. */
const PAGE = 1_000;
/** So many runs are asked for by name, if that fits into a URL; of more, or longer names, all rows are asked for. */
const NAMED_MAX = 100;
const NAMED_CHARS_MAX = 5_000;
const RELOAD_MS_MIN = 1_000;

export class Table {
  rows = $state.raw<readonly Row[]>([]);
  /** Whether an answer to the present question is there. */
  known = $state(false);
  /** Whether there are more than ROWS_MAX. */
  more = $state(false);
  readonly loading = new Loading();
  private question: RunsQuery | null = null;
  private asked = '';
  private readonly stale = new Set<string>();
  private allStale = false;
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly client: Client) {}

  /** Ask this of the service; null: nothing, until there is a question again. */
  ask(question: RunsQuery | null): void {
    const asked = JSON.stringify(question);
    if (asked === this.asked) return;
    this.asked = asked;
    this.question = question;
    this.known = false;
    this.stale.clear();
    this.loading.problem = null;
    if (question) this.loading.replace((signal) => this.readAll(question, signal));
    else this.loading.cancel();
  }

  /** Some runs changed, or time alone may have changed something (null): they are asked for again, soon. */
  changed(news: News): void {
    if (!this.question) return;
    if (news === null) this.allStale = true;
    for (const run of [...(news?.runs ?? []), ...(news?.deleted ?? [])]) this.stale.add(run);
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.loading.follow((signal) => this.catchUp(signal));
    }, RELOAD_MS_MIN);
  }

  private async catchUp(signal: AbortSignal): Promise<void> {
    const question = this.question;
    if (!question) return;
    const runs = [...this.stale];
    if (!runs.length && !this.allStale) return; // what was asked for meanwhile had it all
    const few = runs.length <= NAMED_MAX && encodeURIComponent(runs.join()).length <= NAMED_CHARS_MAX;
    if (this.allStale || !this.known || !few || question.run) return this.readAll(question, signal);
    this.stale.clear();
    try {
      const rows = await this.read({ ...question, run: runs }, signal);
      this.rows = merged(this.rows, rows, new Set(runs));
    } catch (error) {
      for (const run of runs) this.stale.add(run);
      throw error;
    }
  }

  private async readAll(question: RunsQuery, signal: AbortSignal): Promise<void> {
    this.stale.clear();
    this.allStale = false;
    try {
      this.rows = await this.read(question, signal);
    } catch (error) {
      this.allStale = true;
      throw error;
    }
    this.known = true;
  }

  private async read(question: RunsQuery, signal: AbortSignal): Promise<Row[]> {
    const rows: Row[] = [];
    let cursor: string | null = null;
    do {
      const asked: RunsQuery = { ...question, limit: PAGE };
      if (cursor !== null) asked.cursor = cursor;
      const page = await this.client.runs(asked, signal);
      rows.push(...rowsOf(page));
      cursor = page.cursor;
    } while (cursor !== null && rows.length < ROWS_MAX);
    if (!question.run) this.more = cursor !== null;
    return rows;
  }
}

/** Columns of what the view's filter finds; or of these runs, whatever the filter. */
export function tableQuery(view: View, columns: Iterable<string>, runs?: readonly string[]): RunsQuery {
  const query: RunsQuery = { columns: [...new Set(['name', 'display_name', ...columns])].join(',') };
  if (runs) return { ...query, run: [...runs] };
  if (view.project !== null) query.project = view.project;
  if (view.filter) query.filter = view.filter;
  if (!view.archived) query.archived = false;
  return query;
}

/** Rows with what is new of some: those of them that were not found again are gone, those not seen before come last. */
export function merged(rows: readonly Row[], news: readonly Row[], asked: ReadonlySet<string>): Row[] {
  const found = new Map(news.map((row) => [row.name, row]));
  const kept = rows.flatMap((row) => {
    if (!asked.has(row.name)) return [row];
    const now = found.get(row.name);
    found.delete(row.name);
    return now ? [now] : [];
  });
  return [...kept, ...found.values()];
}

/** The rows of an answer, by column. */
export function rowsOf(page: { columns: string[]; rows: unknown[][] }): Row[] {
  return page.rows.map((row) => {
    const values = Object.fromEntries(page.columns.map((column, i) => [column, row[i]]));
    return { name: String(values['name']), values };
  });
}
