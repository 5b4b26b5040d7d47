/** All that the page knows, put together; components get at it by `app()`. */
import { getContext, setContext, untrack } from 'svelte';
import type { Client } from '../api/client';
import { Alerts } from './alerts.svelte';
import { Charts } from './charts.svelte';
import { Clock } from './clock.svelte';
import { Columns } from './columns.svelte';
import { Connection } from './connection.svelte';
import { Health } from './health.svelte';
import { Runs } from './runs.svelte';
import { Service } from './service.svelte';
import { Sweep } from './sweep.svelte';
import { Tags } from './tags.svelte';
import { ViewState } from './view.svelte';

const KEY = Symbol('app');

export class App {
  readonly view: ViewState;
  readonly connection: Connection;
  readonly clock = new Clock();
  readonly service: Service;
  readonly runs: Runs;
  readonly columns: Columns;
  readonly tags: Tags;
  readonly charts: Charts;
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
    this.runs = new Runs(client, this.view);
    this.columns = new Columns(client);
    this.tags = new Tags(client);
    this.charts = new Charts(client, this.view, this.runs, this.tags);
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
        $effect(() => {
          const question = this.alerts.question;
          untrack(() => this.alerts.load(question));
        });
      }),
      this.connection.start(),
      this.clock.start(),
    ];
    return () => stops.forEach((stop) => stop());
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
