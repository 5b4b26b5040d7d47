/** The runs of a sweep with the columns that it is looked at by. */
import { untrack } from 'svelte';
import type { Client } from '../api/client';
import type { News } from '../api/live';
import { beginning, choices, wanted, type Choice, type Wanted } from '../lib/sweep';
import { DEFAULT, type Sweep as Look } from '../lib/view';
import type { Columns } from './columns.svelte';
import type { Row, Runs } from './runs.svelte';
import { Table, tableQuery } from './table.svelte';
import type { ViewState } from './view.svelte';

/** More selected runs than this are looked for among those that the filter finds. */
const NAMED_MAX = 100;

export class Sweep {
  readonly table: Table;
  /** What is to be seen. */
  readonly wanted: Wanted = $derived.by(() => {
    const answer = this.columns.answer;
    return wanted(this.look, answer ? beginning(answer) : { axes: [], metric: null, log: [] });
  });
  /** Columns to choose from. */
  readonly choices: readonly Choice[] = $derived.by(() =>
    this.columns.answer ? choices(this.columns.answer) : [],
  );
  /** The runs that are drawn. */
  readonly rows: readonly Row[] = $derived.by(() =>
    this.look.chosen ? this.table.rows.filter((row) => this.runs.isSelected(row.name)) : this.table.rows,
  );
  private readonly look = $derived.by(() => this.view.current.sweep);
  private readonly project = $derived.by(() => this.view.current.project);
  private readonly question = $derived.by(() => {
    const { axes, metric, x, y, tint } = this.wanted;
    const columns = [...axes, metric, x, y, tint].filter((column) => column !== null);
    const view = this.view.current;
    const only = this.look.chosen && view.selection.kind === 'some' && view.selection.runs;
    const few = only && only.length && only.length <= NAMED_MAX ? only : undefined;
    return JSON.stringify(tableQuery(view, columns, few));
  });

  constructor(
    client: Client,
    private readonly view: ViewState,
    private readonly runs: Runs,
    readonly columns: Columns,
  ) {
    this.table = new Table(client);
  }

  /** Keep it up to date while it is shown; to be called in an effect, which then follows the view. */
  follow(): void {
    const project = this.project;
    untrack(() => this.columns.want(project));
    if (!this.columns.answer) return;
    const question = this.question;
    untrack(() => this.table.ask(JSON.parse(question)));
  }

  /** Nobody looks any more. */
  rest(): void {
    this.table.ask(null);
  }

  changed(news: News): void {
    this.table.changed(news);
  }

  /** Change what is looked at; what was begun with is then chosen. */
  set(changes: Partial<Look>): void {
    const { axes, log } = this.wanted;
    this.view.update({ sweep: { ...this.look, axes, log, ...changes } });
  }

  /** Begin anew. */
  reset(): void {
    const { plot, chosen } = this.look;
    this.view.update({ sweep: { ...DEFAULT.sweep, plot, chosen } });
  }

  /** Let runs lie in a range of a column, or anywhere (null). */
  setRange(column: string, range: readonly [number, number] | null): void {
    const { [column]: _, ...others } = this.look.ranges;
    this.set({ ranges: range ? { ...others, [column]: range } : others });
  }

  toggleLog(column: string): void {
    const { log } = this.wanted;
    this.set({ log: log.includes(column) ? log.filter((other) => other !== column) : [...log, column] });
  }
}
