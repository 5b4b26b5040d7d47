/** All runs' names as a tree of projects, whatever the table's filter. */
import type { Client, RunsQuery } from '../api/client';
import type { News } from '../api/live';
import { runsOf, treeOf, type Node } from '../lib/tree';
import { Loading } from './loading.svelte';

const PAGE = 5_000;
/** Names that are counted: as many runs as the service puts in order. */
const NAMES_MAX = 20_000;
const RELOAD_MS_MIN = 3_000;

export class Projects {
  nodes = $state.raw<readonly Node[]>([]);
  /** Runs in all, without ranks; null: not known yet. */
  count = $state<number | null>(null);
  /** Whether there are more runs than were counted. */
  more = $state(false);
  readonly loading = new Loading();
  private names = new Set<string>();
  private archived = false;
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly client: Client) {}

  /** Load the names, those of archived runs too or not. */
  load(archived: boolean): void {
    this.archived = archived;
    this.loading.replace((signal) => this.read(signal));
  }

  /** Runs that came or went are counted, soon. */
  changed(news: News): void {
    const same = news !== null && news.runs.every((run) => this.names.has(run)) && !news.deleted.length;
    if (!same) this.reload();
  }

  /** Count again, soon. */
  reload(): void {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.loading.follow((signal) => this.read(signal));
    }, RELOAD_MS_MIN);
  }

  private async read(signal: AbortSignal): Promise<void> {
    const names = new Set<string>();
    const query: RunsQuery = { columns: 'name', limit: PAGE };
    if (!this.archived) query.archived = false;
    let cursor: string | null = null;
    do {
      const page = await this.client.runs(cursor === null ? query : { ...query, cursor }, signal);
      for (const [name] of page.rows) names.add(String(name));
      cursor = page.cursor;
    } while (cursor !== null && names.size < NAMES_MAX);
    this.names = names;
    this.nodes = treeOf(names);
    this.count = runsOf(names).size;
    this.more = cursor !== null;
  }
}
