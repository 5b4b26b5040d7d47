/** What columns the runs of a project have: loaded when somebody is about to choose one. */
import type { Client, ColumnsAnswer } from '../api/client';
import { Loading } from './loading.svelte';

/** What was asked for so lately is taken as it is. */
const FRESH_MS = 20_000;

export class Columns {
  answer = $state.raw<ColumnsAnswer | null>(null);
  readonly loading = new Loading();
  private project: string | null = null;
  private at = -Infinity;

  constructor(
    private readonly client: Client,
    private readonly now: () => number = () => Date.now(),
  ) {}

  /** Have the columns of a project's runs (null: of all); those before stay until they come. */
  want(project: string | null): void {
    if (project === this.project && this.now() - this.at < FRESH_MS) return;
    this.project = project;
    this.at = this.now();
    this.loading.replace(async (signal) => {
      this.answer = await this.client.columns(project, signal);
    });
  }
}
