/** Which charts there are, and the curves of those in sight. */
import { untrack } from 'svelte';
import type { Client, QueryBody } from '../api/client';
import type { News } from '../api/live';
import { Gate } from '../lib/gate';
import { asked } from '../lib/ranges';
import type { View, Zoom } from '../lib/view';
import { Curves } from './curves.svelte';
import type { Runs } from './runs.svelte';
import type { Tags } from './tags.svelte';
import type { ViewState } from './view.svelte';

/** A browser opens six connections to one service; one of them is held by /live. */
const AT_ONCE_MAX = 4;
/** Points and buckets in one answer, a little less than the service's own limit. */
const POINTS_MAX = 240_000;
const BUCKETS_MIN = 20;
const BUCKETS_MAX = 2000;
/** A chart that gets a little wider need not be asked for again. */
const BUCKETS_STEP = 50;
const PIXELS_PER_BUCKET = 2;
/** News come several times a second; what is in sight is asked for this often at most. */
const REFRESH_MS_MIN = 500;

/** Charts that stand together: what their tags have before the first slash. */
export interface ChartGroup {
  readonly name: string;
  readonly tags: readonly string[];
}

/** One tag's chart. `whole`: over all of x, coarse; `detail`: the part that is zoomed in on, null if nothing is. */
export class Chart {
  readonly whole: Curves;
  detail = $state.raw<Curves | null>(null);
  /** Width in CSS pixels if it is in sight, else 0. */
  width = $state(0);

  constructor(
    readonly tag: string,
    private readonly make: () => Curves,
  ) {
    this.whole = make();
  }

  /** What is to be drawn: the detail as soon as it is there. */
  get shown(): Curves {
    return this.detail?.known ? this.detail : this.whole;
  }

  /** Ask for all of x, and for the part that is zoomed in on, if there is one. */
  ask(question: QueryBody, zoom: Zoom | null): void {
    if (!zoom) {
      this.detail?.loading.cancel();
      this.detail = null;
      this.whole.ask(question);
      return;
    }
    this.detail ??= this.make();
    const counted = question.x !== 'relative' && question.x !== 'wall_time';
    this.detail.ask({ ...question, ...asked({ from: zoom[0], to: zoom[1] }, counted) });
    this.whole.ask(question, false); // smoothing goes by it; what is new of it is not seen
  }

  changed(news: News): boolean {
    const detail = this.detail?.changed(news) ?? false;
    return this.whole.changed(news) || detail;
  }
}

export class Charts {
  /** Charts by group, pinned ones first; only tags that the search finds. */
  readonly groups: readonly ChartGroup[] = $derived.by(() => grouped(this.tags.names, this.view.current));
  // One by one, so that a chart asks again only when what it asks for has changed.
  readonly x = $derived.by(() => this.view.current.x);
  readonly group = $derived.by(() => this.view.current.group);
  readonly ghosts = $derived.by(() => this.view.current.ghosts);
  private readonly zoom = $derived.by(() => this.view.current.zoom);
  private readonly charts = new Map<string, Chart>();
  private readonly gate = new Gate(AT_ONCE_MAX);
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly client: Client,
    private readonly view: ViewState,
    private readonly runs: Runs,
    private readonly tags: Tags,
  ) {}

  /** The chart of a tag, the same one each time. */
  chart(tag: string): Chart {
    let chart = this.charts.get(tag);
    if (!chart) this.charts.set(tag, (chart = new Chart(tag, () => new Curves(this.client, this.gate))));
    return chart;
  }

  /** What of x a tag's chart shows; null: all. */
  zoomOf(tag: string): Zoom | null {
    return (Object.hasOwn(this.zoom, tag) ? this.zoom[tag] : undefined) ?? this.zoom[''] ?? null;
  }

  /** Show a part of x in all charts, or all of it (null). */
  setZoom(zoom: Zoom | null): void {
    this.view.update({ zoom: zoom ? { '': zoom } : {} });
  }

  /** Keep a chart in sight up to date; to be called in an effect, which then follows view and selection. */
  follow(chart: Chart): void {
    if (chart.width === 0 || !this.runs.selected.length) return;
    const question = questionOf(this, this.runs.selected, chart.tag, chart.width);
    const zoom = this.zoomOf(chart.tag);
    untrack(() => chart.ask(question, zoom));
  }

  /** Some runs changed: charts in sight are asked for what is new, soon; others when they come into sight. */
  changed(news: News): void {
    const concerned = [...this.charts.values()].filter((chart) => chart.changed(news));
    if (!concerned.some((chart) => chart.width > 0)) return;
    this.timer ??= setTimeout(() => {
      this.timer = null;
      for (const chart of this.charts.values()) this.follow(chart);
    }, REFRESH_MS_MIN);
  }
}

interface Basis {
  x: string;
  group: string | null;
  ghosts: boolean;
}

function questionOf(basis: Basis, runs: readonly string[], tag: string, width: number): QueryBody {
  const wanted = Math.min(BUCKETS_MAX, Math.ceil(width / PIXELS_PER_BUCKET / BUCKETS_STEP) * BUCKETS_STEP);
  const most = Math.floor(POINTS_MAX / Math.max(1, runs.length));
  const question: QueryBody = {
    runs: [...runs],
    tags: [tag],
    x: basis.x,
    buckets: Math.max(BUCKETS_MIN, Math.min(wanted, most)),
  };
  if (basis.group !== null) question.group = basis.group;
  else if (basis.ghosts) question.attempts = 'all';
  return question;
}

function grouped(tags: readonly string[], view: View): ChartGroup[] {
  const search = new RegExp(view.tags, 'iu');
  const found = tags.filter((tag) => search.test(tag));
  const groups = new Map<string, string[]>();
  for (const tag of found) {
    const name = tag.includes('/') ? tag.slice(0, tag.indexOf('/')) : '';
    const group = groups.get(name);
    if (group) group.push(tag);
    else groups.set(name, [tag]);
  }
  const pinned = view.pinned.filter((tag) => tags.includes(tag));
  const others = [...groups].map(([name, tags]) => ({ name, tags }));
  return pinned.length ? [{ name: 'Pinned', tags: pinned }, ...others] : others;
}
