/** Which charts there are, and the curves of those in sight. */
import { untrack } from 'svelte';
import type { Client, QueryBody } from '../api/client';
import type { News } from '../api/live';
import { axisOf, chartGroups, isCounted, type ChartGroup } from '../lib/charts';
import { colourOf } from '../lib/colours';
import { ALL_RUNS, bandKey, commonBeginning, groupName, RANKS, type Naming } from '../lib/curves';
import { Frames } from '../lib/frames';
import { Gate } from '../lib/gate';
import { asked } from '../lib/ranges';
import type { Zoom } from '../lib/view';
import { Curves, leanly } from './curves.svelte';
import type { Runs } from './runs.svelte';
import type { Tags } from './tags.svelte';
import type { ViewState } from './view.svelte';

/** A browser opens six connections to one service; one of them is held by /live. */
const AT_ONCE_MAX = 2;
/** Points and buckets in one answer, a little less than the service's own limit. */
const POINTS_MAX = 240_000;
const BUCKETS_MIN = 20;
const BUCKETS_MAX = 2000;
/** A chart that gets a little wider need not be asked for again. */
const BUCKETS_STEP = 50;
const PIXELS_PER_BUCKET = 2;
/** Buckets of all runs for a pixel of a chart's width: with many runs, finer ones can't be told apart. */
const BUCKETS_PER_PIXEL = 20;
/** News come several times a second; what is in sight is asked for this often at most. */
const REFRESH_MS_MIN = 500;
/** Charts out of sight whose curves are kept: a megabyte each, with many runs. */
const RESTING_MAX = 24;

/** One tag's chart. `whole`: over all of x, coarse; `detail`: the part that is zoomed in on, null if nothing is. */
export class Chart {
  readonly whole: Curves;
  detail = $state.raw<Curves | null>(null);
  /** Width in CSS pixels if it is in sight, else 0. */
  width = $state(0);
  /** Whether news are asked for as they come: it is in sight. */
  live = false;
  private zoom: Zoom | null = null;

  constructor(
    readonly tag: string,
    private readonly make: () => Curves,
  ) {
    this.whole = make();
  }

  /** What is to be drawn: the detail, as soon as it is there, or while an earlier one covers what is wanted. */
  get shown(): Curves {
    const detail = this.detail;
    return detail && (detail.known || this.covers(detail)) ? detail : this.whole;
  }

  /** What is wanted in the end, whether it is there or not. */
  get wanted(): Curves {
    return this.detail ?? this.whole;
  }

  /** Ask for all of x, and for the part that is zoomed in on, if there is one. */
  ask(question: QueryBody, zoom: Zoom | null): void {
    this.zoom = zoom;
    if (!zoom) {
      this.detail?.loading.cancel();
      this.detail = null;
      this.whole.ask(question);
      return;
    }
    this.detail ??= this.make();
    this.detail.ask({
      ...question,
      ...asked({ from: zoom[0], to: zoom[1] }, isCounted(question.x ?? 'step')),
    });
    this.whole.ask(question, false); // smoothing goes by it; what is new of it is not seen
  }

  retry(): void {
    for (const curves of [this.detail, this.whole]) if (curves?.loading.problem) curves.retry();
  }

  /** It is out of sight: what is under way is left. */
  rest(): void {
    this.width = 0;
    this.live = false;
    this.whole.rest();
    this.detail?.rest();
  }

  changed(news: News): boolean {
    const detail = this.detail?.changed(news) ?? false;
    return this.whole.changed(news) || detail;
  }

  private covers({ answered }: Curves): boolean {
    const [zoom, whole] = [this.zoom, this.whole.answered];
    if (!answered || !zoom || answered.x !== whole?.x || answered.group !== whole?.group) return false;
    return (answered.from ?? Infinity) <= zoom[0] && (answered.to ?? -Infinity) >= zoom[1];
  }
}

export class Charts {
  // One by one, so that a chart asks or draws again only when what concerns it has changed.
  readonly x = $derived.by(() => this.view.current.x);
  readonly group = $derived.by(() => this.view.current.group);
  readonly ghosts = $derived.by(() => this.view.current.ghosts);
  readonly log = $derived.by(() => this.view.current.log);
  readonly smoothing = $derived.by(() => this.view.current.smoothing);
  readonly outliers = $derived.by(() => this.view.current.outliers);
  readonly spread = $derived.by(() => this.view.current.spread);
  private readonly search = $derived.by(() => this.view.current.tags);
  private readonly pins = $derived.by(() => this.view.current.pinned);
  private readonly zoom = $derived.by(() => this.view.current.zoom);
  private readonly ownZoom = $derived.by(() => this.view.current.ownZoom);
  private readonly height = $derived.by(() => this.view.current.height);
  private readonly colours = $derived.by(() => this.view.current.colours);
  /** Charts by group, without those that are pinned; only tags that the search finds. */
  readonly groups: readonly ChartGroup[] = $derived.by(() =>
    chartGroups(this.tags.names, this.search, this.pins),
  );
  /** Pinned tags that the selected runs have, in the order in which they were pinned. */
  readonly pinned: readonly string[] = $derived.by(() => {
    const there = new Set(this.tags.names);
    return this.pins.filter((tag) => there.has(tag));
  });
  /** The selected runs; a line of any other is not drawn, even before the answer without it is there. */
  readonly selected = $derived.by(() => new Set(this.runs.selected));
  readonly naming: Naming = $derived.by(() => {
    const [labels, colours, beginning] = [this.labels, this.colours, this.beginning];
    return {
      label: (run) => labels.get(run) ?? (run.startsWith(beginning) ? run.slice(beginning.length) : run),
      colour: (run) => colourOf(run, colours),
      groupColour: (value) => colourOf(value),
    };
  });
  /** The groups that charts in sight show, each once. */
  readonly legend = $derived.by(() => {
    const { group } = this;
    if (group === null) return [];
    const bands = [...this.inSight].flatMap((chart) => chart.shown.bands);
    const named = new Map(bands.map((band) => [bandKey(band), groupName(group, band.value)]));
    return [...named].map(([key, name]) => ({ key, name, colour: this.naming.groupColour(key) }));
  });
  private readonly counters = $derived.by(
    () => new Map((this.tags.answer?.tags ?? []).map(({ tag, counters }) => [tag, counters])),
  );
  private readonly beginning = $derived.by(() => commonBeginning(this.runs.selected));
  private readonly labels = $derived.by(() => this.labelsNow());
  private before = { text: '', labels: new Map<string, string>() };
  /** In which charts are drawn. */
  readonly frames = new Frames();
  private readonly charts = new Map<string, Chart>();
  private inSight = $state.raw<readonly Chart[]>([]);
  /** Out of sight, the longest so first. */
  private readonly resting = new Set<Chart>();
  private readonly gate = new Gate(AT_ONCE_MAX);
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly client: Client,
    private readonly view: ViewState,
    private readonly runs: Runs,
    private readonly tags: Tags,
  ) {}

  /** The chart of a tag at a place of the page, the same one each time. */
  chart(tag: string, place = ''): Chart {
    const key = `${place}\n${tag}`;
    let chart = this.charts.get(key);
    if (!chart) this.charts.set(key, (chart = new Chart(tag, () => new Curves(this.client, this.gate))));
    return chart;
  }

  /** What a tag's x is; see `axisOf`. */
  axis(tag: string): string {
    return axisOf(this.x, this.counters.get(tag) ?? {});
  }

  /** The axis that most charts are along: only the others need to say theirs. */
  readonly commonAxis: string = $derived.by(() => {
    const times: Record<string, number> = {};
    for (const tag of this.tags.names) times[this.axis(tag)] = (times[this.axis(tag)] ?? 0) + 1;
    return axisOf('step', times);
  });

  /** What of x a tag's chart shows; null: all. */
  zoomOf(tag: string): Zoom | null {
    return own(this.ownZoom, tag) ?? own(this.zoom, this.axis(tag));
  }

  /** What of y a tag's chart shows; null: what its curves need. */
  heightOf(tag: string): Zoom | null {
    return own(this.height, tag);
  }

  /** Show a part of x: in a tag's chart alone, or in all along its axis, as the view says. */
  setZoom(tag: string, zoom: Zoom): void {
    const { alone } = this.view.current;
    if (alone) this.view.update({ ownZoom: { ...this.ownZoom, [tag]: zoom } });
    else
      this.view.update({
        zoom: { ...this.zoom, [this.axis(tag)]: zoom },
        ownZoom: without(this.ownZoom, tag),
      });
  }

  setHeight(tag: string, height: Zoom): void {
    this.view.update({ height: { ...this.height, [tag]: height } });
  }

  /** Show all of a tag's chart again; of the others along its axis, too, unless only this one was zoomed. */
  reset(tag: string): void {
    const alone = own(this.ownZoom, tag) !== null;
    this.view.update({
      ownZoom: without(this.ownZoom, tag),
      height: without(this.height, tag),
      ...(alone ? {} : { zoom: without(this.zoom, this.axis(tag)) }),
    });
  }

  /** Draw along another x: zooms of single charts were of the one before. */
  setX(x: string): void {
    this.view.update({ x, ownZoom: {} });
  }

  togglePin(tag: string): void {
    const pinned = this.pins.includes(tag) ? this.pins.filter((other) => other !== tag) : [...this.pins, tag];
    this.view.update({ pinned });
  }

  toggleFold(name: string): void {
    const { folded } = this.view.current;
    const others = folded.filter((other) => other !== name);
    this.view.update({ folded: others.length < folded.length ? others : [...folded, name] });
  }

  /**
   * Keep a chart up to date, by news, too, if it is in sight; to be called in an effect, which then follows view and
   * selection.
   */
  follow(chart: Chart, inSight: boolean): void {
    chart.live = inSight;
    if (chart.width === 0 || !this.runs.selected.length) return;
    const question = this.question(chart.tag, chart.width);
    const zoom = this.zoomOf(chart.tag);
    untrack(() => {
      this.resting.delete(chart);
      if (!this.inSight.includes(chart)) this.inSight = [...this.inSight, chart];
      chart.ask(question, zoom);
    });
  }

  /** A chart went out of sight: its curves are kept for a while, in case that it comes back. */
  leave(chart: Chart): void {
    chart.rest();
    this.inSight = this.inSight.filter((other) => other !== chart);
    this.resting.add(chart);
    for (const oldest of this.resting) {
      if (this.resting.size <= RESTING_MAX) break;
      this.resting.delete(oldest);
      for (const [key, kept] of this.charts) if (kept === oldest) this.charts.delete(key);
    }
  }

  /** Some runs changed: charts in sight are asked for what is new, soon; others when they come into sight. */
  changed(news: News): void {
    const concerned = [...this.charts.values()].filter((chart) => chart.changed(news));
    if (!concerned.some((chart) => chart.live)) return;
    this.timer ??= setTimeout(() => {
      this.timer = null;
      for (const chart of this.charts.values()) if (chart.live) this.follow(chart, true);
    }, REFRESH_MS_MIN);
  }

  /** What of a chart is seen, with every column there is, for a file. */
  seen(chart: Chart): Promise<Awaited<ReturnType<Client['query']>>> {
    const { fields: _, ...question } = this.question(chart.tag, chart.width);
    const zoom = this.zoomOf(chart.tag);
    const range = zoom ? asked({ from: zoom[0], to: zoom[1] }, isCounted(this.x)) : {};
    return this.client.query({ ...question, ...range });
  }

  private question(tag: string, width: number): QueryBody {
    const wanted = Math.min(BUCKETS_MAX, Math.ceil(width / PIXELS_PER_BUCKET / BUCKETS_STEP) * BUCKETS_STEP);
    const runs = this.runs.selected;
    const most = Math.floor(Math.min(POINTS_MAX, BUCKETS_PER_PIXEL * width) / Math.max(1, runs.length));
    const question: QueryBody = {
      runs: [...runs],
      tags: [tag],
      x: this.x,
      buckets: Math.max(BUCKETS_MIN, Math.min(wanted, most)),
    };
    if (this.group !== null) return { ...question, group: this.group };
    return leanly(this.ghosts ? { ...question, attempts: 'all' } : question);
  }

  private labelsNow(): Map<string, string> {
    const named = this.runs.rows.flatMap(({ name, values }) =>
      typeof values['display_name'] === 'string' ? [[name, values['display_name']] as const] : [],
    );
    const text = JSON.stringify(named);
    if (text !== this.before.text) this.before = { text, labels: new Map(named) };
    return this.before.labels;
  }
}

/** Ways to group that are not keys of a config, as the choice offers them. */
export const WAYS: readonly (readonly [group: string, label: string])[] = [
  [ALL_RUNS, 'All runs'],
  [RANKS, 'Ranks of a run'],
];

function own(zooms: Readonly<Record<string, Zoom>>, name: string): Zoom | null {
  return (Object.hasOwn(zooms, name) ? zooms[name] : undefined) ?? null;
}

function without(zooms: Readonly<Record<string, Zoom>>, name: string): Readonly<Record<string, Zoom>> {
  if (!Object.hasOwn(zooms, name)) return zooms;
  const { [name]: _, ...others } = zooms;
  return others;
}
