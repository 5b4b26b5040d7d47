/** All that the page knows, put together; components get at it by `app()`. */
import { getContext, setContext, untrack } from 'svelte';
import type { Client } from '../api/client';
import { Charts } from './charts.svelte';
import { Choices } from './choices.svelte';
import { Connection } from './connection.svelte';
import { Cursor } from './cursor.svelte';
import { Runs } from './runs.svelte';
import { Tags } from './tags.svelte';
import { ViewState } from './view.svelte';

const KEY = Symbol('app');

export class App {
  readonly view: ViewState;
  readonly connection: Connection;
  readonly runs: Runs;
  readonly tags: Tags;
  readonly charts: Charts;
  readonly choices: Choices;
  readonly cursor = new Cursor();

  constructor(
    readonly client: Client,
    window: Window,
  ) {
    this.view = new ViewState(window);
    this.connection = new Connection(client);
    this.runs = new Runs(client, this.view);
    this.tags = new Tags(client);
    this.charts = new Charts(client, this.view, this.runs, this.tags);
    this.choices = new Choices(client);
  }

  /** Follow the URL, the service and each other until the returned function is called. */
  start(): () => void {
    const stops = [
      this.view.follow(),
      this.connection.onNews((news) => {
        this.runs.changed(news);
        this.tags.changed(news);
        this.charts.changed(news);
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
          const project = this.view.current.project;
          untrack(() => this.choices.load(project));
        });
      }),
      this.connection.start(),
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
