/** The run whose details are shown, whole; and the configs of those that are compared. */
import type { Client, RunView } from '../api/client';
import type { News } from '../api/live';
import type { Compared } from '../lib/configs';
import { urlParts } from '../lib/names';
import { Loading } from './loading.svelte';

const RELOAD_MS_MIN = 1_000;
/** Configs side by side: more columns than anybody reads. */
export const COMPARED_MAX = 50;

export class Details {
  /** The run as it is known; null: none, or not yet. */
  run = $state.raw<RunView | null>(null);
  readonly loading = new Loading();
  private name: string | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly client: Client) {}

  /** Load a run; null: none is shown. */
  load(name: string | null): void {
    this.name = name;
    if (this.run?.run !== name) this.run = null;
    this.loading.problem = null;
    if (name === null) this.loading.cancel();
    else this.loading.replace((signal) => this.read(name, signal));
  }

  changed(news: News): void {
    if (this.name === null || (news && ![...news.runs, ...news.deleted].includes(this.name))) return;
    this.timer ??= setTimeout(() => {
      this.timer = null;
      const name = this.name;
      if (name !== null) this.loading.follow((signal) => this.read(name, signal));
    }, RELOAD_MS_MIN);
  }

  private async read(name: string, signal: AbortSignal): Promise<void> {
    this.run = await this.client.run(name, signal);
  }
}

export class Comparison {
  /** In the order in which they were asked for; null: not known yet. */
  runs = $state.raw<readonly Compared[] | null>(null);
  readonly loading = new Loading();

  constructor(private readonly client: Client) {}

  /** Load the configs of the first of these runs; none: nothing is compared. */
  load(names: readonly string[]): void {
    const wanted = names.slice(0, COMPARED_MAX);
    this.loading.problem = null;
    if (wanted.length) this.loading.replace((signal) => this.read(wanted, signal));
    else {
      this.loading.cancel();
      this.runs = null;
    }
  }

  private async read(names: readonly string[], signal: AbortSignal): Promise<void> {
    const parts = urlParts(names);
    const pages = await Promise.all(parts.map((part) => this.client.briefs(part, signal)));
    const found = new Map(pages.flatMap((page) => page.runs).map((row) => [row.run, row]));
    this.runs = names.flatMap((name) => {
      const row = found.get(name);
      return row ? [{ name, config: row.config }] : [];
    });
  }
}
