/** The newest alerts of the runs that the filter finds, and those that came while somebody looked. */
import type { Client, RunsQuery } from '../api/client';
import type { News } from '../api/live';
import { newest, type RunAlert } from '../lib/alerts';
import { both } from '../lib/expression';
import { Gate } from '../lib/gate';
import { Loading } from './loading.svelte';
import { tableQuery } from './table.svelte';
import type { ViewState } from './view.svelte';

/** Alerts in the list, runs that they are taken from, and alerts of one run. */
const RECENT_MAX = 50;
const RUNS_MAX = 20;
const OF_RUN_MAX = 20;
const AT_ONCE_MAX = 3;
/** New ones that are said at once; of more, the newest. */
const FRESH_MAX = 4;
const RELOAD_MS_MIN = 1_500;

export class Alerts {
  /** Newest first. */
  recent = $state.raw<readonly RunAlert[]>([]);
  /** That came since the page was opened, until they are put away; oldest first. */
  fresh = $state.raw<readonly RunAlert[]>([]);
  known = $state(false);
  readonly loading = new Loading();
  /** What is asked for, as JSON. */
  readonly question: string = $derived.by(() => {
    const query = tableQuery(this.view.current, ['alerted_at']);
    query.filter = both(query.filter ?? '', 'alerts > 0');
    return JSON.stringify({ ...query, sort: '-alerted_at', limit: RUNS_MAX });
  });
  private asked: RunsQuery | null = null;
  private readonly at = new Map<string, number>();
  private readonly gate = new Gate(AT_ONCE_MAX);
  /** When the newest alert came that was there when the page was opened; null: not known yet. */
  private since: number | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly client: Client,
    private readonly view: ViewState,
  ) {}

  /** Load what another view shows: nothing of that is new. */
  load(question: string): void {
    const asked = (this.asked = JSON.parse(question) as RunsQuery);
    this.known = false;
    this.loading.replace(async (signal) => {
      await this.read(asked, true, signal);
      this.since = Math.max(this.since ?? 0, this.recent[0]?.alert.received_at ?? 0);
    });
  }

  changed(news: News): void {
    if (news?.deleted.length) {
      const gone = new Set(news.deleted);
      this.recent = this.recent.filter(({ run }) => !gone.has(run));
    }
    this.timer ??= setTimeout(() => {
      this.timer = null;
      const asked = this.asked;
      if (asked) this.loading.follow((signal) => this.read(asked, !this.known, signal));
    }, RELOAD_MS_MIN);
  }

  dismiss(key: string): void {
    this.fresh = this.fresh.filter((one) => one.key !== key);
  }

  private async read(asked: RunsQuery, anew: boolean, signal: AbortSignal): Promise<void> {
    const { columns, rows } = await this.client.runs(asked, signal);
    const [name, at] = [columns.indexOf('name'), columns.indexOf('alerted_at')];
    const changed = (rows as unknown[][]).filter(
      (row) => anew || this.at.get(String(row[name])) !== Number(row[at]),
    );
    const pages = await Promise.all(
      changed.map((row) =>
        this.gate.run(() => this.client.alerts(String(row[name]), OF_RUN_MAX, signal), signal),
      ),
    );
    for (const row of changed) this.at.set(String(row[name]), Number(row[at]));
    this.recent = newest(anew ? [] : this.recent, pages, RECENT_MAX);
    this.known = true;
    this.tell();
  }

  private tell(): void {
    const since = this.since;
    if (since === null) return;
    const came = this.recent.filter(({ alert }) => alert.received_at > since).reverse();
    if (!came.length) return;
    this.fresh = [...this.fresh, ...came].slice(-FRESH_MAX);
    this.since = came.at(-1)!.alert.received_at;
  }
}
