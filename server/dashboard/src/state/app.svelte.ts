/** All that the page knows, put together; components get at it by `app()`. */
import { getContext, setContext, untrack } from 'svelte';
import type { Client } from '../api/client';
import { Charts } from './charts.svelte';
import { Clock } from './clock.svelte';
import { Connection } from './connection.svelte';
import { Runs } from './runs.svelte';
import { Sweep } from './sweep.svelte';
import { Tags } from './tags.svelte';
import { ViewState } from './view.svelte';

const KEY = Symbol('app');

export class App {
  readonly view: ViewState;
  readonly connection: Connection;
  readonly clock = new Clock();
  readonly runs: Runs;
  readonly tags: Tags;
  readonly charts: Charts;
  readonly sweep: Sweep;

  constructor(
    readonly client: Client,
    window: Window,
  ) {
    this.view = new ViewState(window);
    this.connection = new Connection(client);
    this.runs = new Runs(client, this.view);
    this.tags = new Tags(client);
    this.charts = new Charts(client, this.view, this.runs, this.tags);
    this.sweep = new Sweep(client, this.view, this.runs);
  }

  /** Follow the URL, the service and each other until the returned function is called. */
  start(): () => void {
    const stops = [
      this.view.follow(),
      this.connection.onNews((news) => {
        this.runs.changed(news);
        this.tags.changed(news);
        this.charts.changed(news);
        this.sweep.changed(news);
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
