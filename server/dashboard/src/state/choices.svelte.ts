/** What charts can be drawn along and grouped by: counters, and keys of the runs' config. */
import type { Client, ColumnsAnswer } from '../api/client';
import { Loading } from './loading.svelte';

const PREFIX = 'config.';
/** A key with more values than this tells runs apart rather than puts them together. */
const VALUES_MAX = 100;

export class Choices {
  counters = $state.raw<readonly string[]>([]);
  /** Keys of the config, those that make fewer groups than there are runs. */
  keys = $state.raw<readonly string[]>([]);
  readonly loading = new Loading();

  constructor(private readonly client: Client) {}

  load(project: string | null): void {
    this.loading.replace(async (signal) => this.take(await this.client.columns(project, signal)));
  }

  private take({ config, counters }: ColumnsAnswer): void {
    this.counters = counters.map(({ counter }) => counter);
    this.keys = config
      .filter(({ distinct }) => distinct !== null && distinct <= VALUES_MAX)
      .map(({ column }) => column.slice(PREFIX.length));
  }
}
