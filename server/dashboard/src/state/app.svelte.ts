/** All that the page knows, put together; components get at it by `app()`. */
import { getContext, setContext, untrack } from 'svelte';
import type { Client } from '../api/client';
import { Alerts } from './alerts.svelte';
import { Charts } from './charts.svelte';
import { Choices } from './choices.svelte';
import { Clock } from './clock.svelte';
import { Columns } from './columns.svelte';
import { Connection } from './connection.svelte';
import { Cursor } from './cursor.svelte';
import { Comparison, Details } from './details.svelte';
import { Edits } from './edits.svelte';
import { Health } from './health.svelte';
import { Projects } from './projects.svelte';
import { Runs } from './runs.svelte';
import { Service } from './service.svelte';
import { Sweep } from './sweep.svelte';
import { Tags } from './tags.svelte';
import { Toasts } from './toasts.svelte';
import { ViewState } from './view.svelte';

const KEY = Symbol('app');
const NONE: readonly string[] = [];
const REFRESH_MS = 60_000;

export class App {
  readonly view: ViewState;
  readonly connection: Connection;
  readonly clock = new Clock();
  readonly toasts = new Toasts();
  readonly service: Service;
  readonly runs: Runs;
  readonly projects: Projects;
  readonly columns: Columns;
  readonly details: Details;
  readonly comparison: Comparison;
  readonly edits: Edits;
  readonly tags: Tags;
  readonly charts: Charts;
  readonly choices: Choices;
  readonly cursor = new Cursor();
  readonly sweep: Sweep;
  readonly health: Health;
  readonly alerts: Alerts;

  constructor(
    readonly client: Client,
    window: Window,
  ) {
    this.view = new ViewState(window);
    this.connection = new Connection(client);
    this.service = new Service(client, this.clock);
    this.runs = new Runs(client, this.view, this.clock);
    this.projects = new Projects(client);
    this.columns = new Columns(client);
    this.details = new Details(client);
    this.comparison = new Comparison(client);
    this.edits = new Edits(
      client,
      this.toasts,
      (runs) => this.edited(runs),
      (runs, archived) => this.archived(runs, archived),
    );
    this.tags = new Tags(client);
    this.charts = new Charts(client, this.view, this.runs, this.tags);
    this.choices = new Choices(this.columns);
    this.sweep = new Sweep(client, this.view, this.runs, this.columns);
    this.health = new Health(client, this.view, this.runs, this.columns, this.connection);
    this.alerts = new Alerts(client, this.view);
  }

  /** Follow the URL, the service and each other until the returned function is called. */
  start(): () => void {
    const stops = [
      this.view.follow(),
      this.connection.onNews((news) => {
        if (news === null) this.service.load();
        this.runs.changed(news);
        this.projects.changed(news);
        this.details.changed(news);
        this.tags.changed(news);
        this.charts.changed(news);
        this.sweep.changed(news);
        this.health.changed(news);
        this.alerts.changed(news);
      }),
      $effect.root(() => {
        $effect(() => {
          const question = this.runs.question;
          untrack(() => this.runs.load(question));
        });
        $effect(() => {
          const selected = this.runs.selected;
          untrack(() => this.tags.load(selected));
        });
        this.followRuns();
        $effect(() => {
          const project = this.view.current.project;
          untrack(() => this.columns.want(project));
        });
        $effect(() => {
          const question = this.alerts.question;
          untrack(() => this.alerts.load(question));
        });
      }),
      this.connection.start(),
      this.clock.start(),
      this.refreshing(),
    ];
    return () => stops.forEach((stop) => stop());
  }

  /** Runs were changed from here: show it before the service tells of it. */
  private edited(runs: readonly string[]): void {
    const news = { runs, deleted: [] };
    this.runs.changed(news);
    this.runs.catchUp();
    this.projects.reload();
    this.details.changed(news);
  }

  /** Archived runs leave the charts as they leave the table, and come back with it. */
  private archived(runs: readonly string[], archived: boolean): void {
    if (!this.view.current.archived) this.runs.selectMany(runs, !archived);
  }

  /** What is shown of runs besides table and charts. */
  private followRuns(): void {
    const archived = $derived(this.view.current.archived);
    const open = $derived(this.view.current.open);
    const compared = $derived(this.view.current.compare ? this.runs.selected : NONE);
    $effect(() => {
      const also = archived;
      untrack(() => this.projects.load(also));
    });
    $effect(() => {
      const run = open;
      untrack(() => this.details.load(run));
    });
    $effect(() => {
      const names = compared;
      untrack(() => this.comparison.load(names));
    });
  }

  /** Idle times, and who is lost, change without news: now and then the whole table is asked for. */
  private refreshing(): () => void {
    const timer = setInterval(() => {
      if (this.connection.status === 'live' && !document.hidden) this.runs.changed(null);
    }, REFRESH_MS);
    return () => clearInterval(timer);
  }
}

/** Give an app to all components below. */
export function provide(app: App): App {
  return setContext(KEY, app);
}

/** The page's app; to be called while a component is made. */
export function app(): App {
  return getContext<App>(KEY);
}
