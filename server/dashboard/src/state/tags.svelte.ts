/** Which tags the selected runs have: what charts there can be. */
import type { Client, TagsAnswer } from '../api/client';
import type { News } from '../api/live';
import { Loading } from './loading.svelte';

/** News come several times a second, and rarely bring a new tag. */
const RELOAD_MS_MIN = 2_000;

export class Tags {
  /** Tags of scalars that any selected run has, in the order of their names. */
  names = $state.raw<readonly string[]>([]);
  /** The service's whole answer: counters of each tag, and what is no scalar; null before the first. */
  answer = $state.raw<TagsAnswer | null>(null);
  readonly loading = new Loading();
  private runs: readonly string[] = [];
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly client: Client) {}

  /** Load the tags of these runs; those before stay until the answer comes. */
  load(runs: readonly string[]): void {
    this.runs = runs;
    if (runs.length) {
      this.loading.replace((signal) => this.read(runs, signal));
      return;
    }
    this.loading.cancel();
    this.answer = null;
    this.names = [];
  }

  changed(news: News): void {
    const runs = new Set(this.runs);
    if (news !== null && ![...news.runs, ...news.deleted].some((run) => runs.has(run))) return;
    this.timer ??= setTimeout(() => {
      this.timer = null;
      if (this.runs.length) this.loading.follow((signal) => this.read(this.runs, signal));
    }, RELOAD_MS_MIN);
  }

  private async read(runs: readonly string[], signal: AbortSignal): Promise<void> {
    const answer = await this.client.tags([...runs], signal);
    const names = answer.tags.map(({ tag }) => tag);
    this.answer = answer;
    if (names.join('\n') !== this.names.join('\n')) this.names = names;
  }
}
