/** How the runs do: all that the filter finds in a table, and the details of those that are opened. */
import { untrack } from 'svelte';
import type { AlertsPage, Client, RefusedPage, RunView } from '../api/client';
import type { News } from '../api/live';
import { alertsOf, type RunAlert } from '../lib/alerts';
import {
  byUrgency,
  countersOf,
  healthColumns,
  isShown,
  standingOf,
  tally,
  type Standing,
} from '../lib/health';
import { asAlert } from '../lib/incidents';
import type { Show } from '../lib/view';
import type { Columns } from './columns.svelte';
import type { Connection } from './connection.svelte';
import { Loading } from './loading.svelte';
import type { Runs } from './runs.svelte';
import { Table, tableQuery } from './table.svelte';
import type { ViewState } from './view.svelte';

/** Who is lost, and rates, change without news. */
const REFRESH_MS = 15_000;
const RELOAD_MS_MIN = 1_000;
const ALERTS_MAX = 50;
const INCIDENTS_MAX = 200;
const NOTHING_ABOVE = { open: null, compare: false, full: null } as const;

/** A run whose details are open. */
export class Detail {
  run = $state.raw<RunView | null>(null);
  refused = $state.raw<RefusedPage['refused']>([]);
  alerts = $state.raw<readonly RunAlert[]>([]);
  readonly loading = new Loading();
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    readonly name: string,
    private readonly client: Client,
  ) {
    this.loading.replace((signal) => this.read(signal));
  }

  changed(news: News): void {
    if (news?.deleted.includes(this.name)) return this.close();
    if (news && !news.runs.includes(this.name)) return;
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.loading.follow((signal) => this.read(signal));
    }, RELOAD_MS_MIN);
  }

  /** Ask no more. */
  close(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    this.loading.cancel();
  }

  /** What was refused, and alerts, are asked for if the run says that there are any. */
  private async read(signal: AbortSignal): Promise<void> {
    const run = await this.client.run(this.name, signal);
    const [refused, alerts] = await Promise.all([
      run.health.refused_kept ? this.client.refused(this.name, signal) : { refused: [] },
      run.health.alerts_kept ? this.client.alerts(this.name, ALERTS_MAX, signal) : none(this.name),
    ]);
    this.run = run;
    this.refused = refused.refused;
    this.alerts = alertsOf(alerts);
  }
}

export class Health {
  readonly table: Table;
  /** What is wrong now with runs that the filter finds, newest first. */
  readonly incidents: readonly RunAlert[] = $derived.by(() => {
    const found = new Set(this.standings.map(({ name }) => name));
    return this.wrong.filter(({ run }) => found.has(run));
  });
  /** The run that somebody wants to see, until it is in sight. */
  visited = $state<string | null>(null);
  /** All runs that the filter finds. */
  readonly standings: readonly Standing[] = $derived.by(() => {
    const counters = this.counters;
    return this.table.rows.map((row) => standingOf(row, counters));
  });
  readonly counts: Record<Show, number> = $derived.by(() =>
    tally(this.standings, (run) => this.runs.isSelected(run)),
  );
  /** What is listed: without a selection, the runs that are running. */
  readonly show: Show = $derived.by(() => {
    const { show } = this.view.current.health;
    return show === 'selected' && !this.runs.selected.length ? 'running' : show;
  });
  readonly listed: readonly Standing[] = $derived.by(() =>
    byUrgency(this.standings.filter((run) => isShown(run, this.show, (name) => this.runs.isSelected(name)))),
  );
  private readonly open = $derived.by(() => this.view.current.health.open);
  private readonly project = $derived.by(() => this.view.current.project);
  private readonly counters = $derived.by(() => (this.columns.answer ? countersOf(this.columns.answer) : []));
  private readonly question = $derived.by(() =>
    JSON.stringify(tableQuery(this.view.current, healthColumns(this.counters))),
  );
  /** Which runs have incidents, and of which kinds: when that changes, they are asked for. */
  private readonly found = $derived.by(() =>
    JSON.stringify(
      this.standings.filter(({ incidents }) => incidents.length).map((run) => [run.name, run.incidents]),
    ),
  );
  private wrong = $state.raw<readonly RunAlert[]>([]);
  private readonly asking = new Loading();
  private readonly details = new Map<string, Detail>();

  constructor(
    private readonly client: Client,
    private readonly view: ViewState,
    private readonly runs: Runs,
    private readonly columns: Columns,
    private readonly connection: Connection,
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

  /** Ask what is wrong whenever that may have changed; to be called in an effect. */
  followIncidents(): void {
    const [project] = [this.project, this.found];
    untrack(() => this.asking.follow((signal) => this.readIncidents(project, signal)));
  }

  private async readIncidents(project: string | null, signal: AbortSignal): Promise<void> {
    const { incidents } = await this.client.incidents(project, INCIDENTS_MAX, signal);
    this.wrong = incidents.map(asAlert);
  }

  /** Ask again now and then while the page is live, until the returned function is called: then nobody looks any more. */
  watch(): () => void {
    const timer = setInterval(() => {
      if (this.connection.status !== 'live' || document.hidden) return;
      this.table.changed(null);
      this.asking.follow((signal) => this.readIncidents(this.project, signal));
    }, REFRESH_MS);
    return () => {
      clearInterval(timer);
      this.table.ask(null);
      this.asking.cancel();
      for (const detail of this.details.values()) detail.close();
      this.details.clear();
    };
  }

  changed(news: News): void {
    this.table.changed(news);
    for (const detail of this.details.values()) detail.changed(news);
  }

  isOpen(run: string): boolean {
    return this.open.includes(run);
  }

  /** Show a run's details, or put them away. */
  toggle(run: string, open: boolean): void {
    const others = this.open.filter((other) => other !== run);
    this.set({ open: open ? [...others, run] : others });
    if (open) return;
    this.details.get(run)?.close();
    this.details.delete(run);
  }

  /** The details of an open run, the same each time. */
  detail(run: string): Detail {
    let detail = this.details.get(run);
    if (!detail) this.details.set(run, (detail = new Detail(run, this.client)));
    return detail;
  }

  setShow(show: Show): void {
    this.set({ show });
  }

  /** Go to the alerts of a run, or to what is wrong with it, wherever the page is. */
  visit(run: string, show: Show = 'alerts'): void {
    const { open } = this.view.current.health;
    this.visited = run;
    this.view.update({
      region: 'health',
      health: { show, open: [...new Set([...open, run])] },
      ...NOTHING_ABOVE,
    });
  }

  private set(changes: Partial<{ show: Show; open: readonly string[] }>): void {
    this.view.update({ health: { ...this.view.current.health, ...changes } });
  }
}

function none(run: string): AlertsPage {
  return { run, alerts: [] };
}
