/** What charts can be drawn along and grouped by: counters, and keys of the runs' config. */
import { configPath } from '../lib/columns';
import type { Columns } from './columns.svelte';

const PREFIX = 'config.';
/** A key with more values than this tells runs apart rather than puts them together. */
const VALUES_MAX = 100;

export class Choices {
  readonly counters: readonly string[] = $derived.by(() =>
    (this.columns.answer?.counters ?? []).map(({ counter }) => counter),
  );
  /** Keys of the config as paths, those that make fewer groups than there are runs. */
  readonly keys: readonly string[] = $derived.by(() =>
    (this.columns.answer?.config ?? [])
      .filter(({ distinct }) => distinct !== null && distinct <= VALUES_MAX)
      .map(({ column }) => configPath(column.slice(PREFIX.length))),
  );

  constructor(private readonly columns: Columns) {}
}
