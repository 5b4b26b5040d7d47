/**
 * All that a view is, as one value, and as the query string of a URL.
 *
 * What is as in `DEFAULT` is left out of the URL. What a URL says that can't be understood is ignored, with a notice.
 */

export const REGIONS = ['charts', 'sweep', 'health'] as const;
export type Region = (typeof REGIONS)[number];

/** Some runs by name, or all that the filter finds but for some. */
export type Selection =
  | { readonly kind: 'some'; readonly runs: readonly string[] }
  | { readonly kind: 'all'; readonly but: readonly string[] };

/** Which runs the health region lists: the selected ones (without any, those that are running), or those in a state. */
export const SHOWS = [
  'selected',
  'running',
  'stalled',
  'lost',
  'failed',
  'finished',
  'incidents',
  'alerts',
  'refused',
] as const;
export type Show = (typeof SHOWS)[number];

export type Zoom = readonly [from: number, to: number];

export const SIZES = ['small', 'medium', 'large'] as const;
export type Size = (typeof SIZES)[number];
export const SPREADS = ['std', 'range'] as const;
export type Spread = (typeof SPREADS)[number];

export interface View {
  /** What the main area shows. */
  readonly region: Region;
  /** Whose runs are listed; null: all. */
  readonly project: string | null;
  /** Filter, order and columns of the table, in the language of GET /runs. */
  readonly filter: string;
  readonly sort: string;
  readonly columns: readonly string[];
  /** Whether archived runs are listed, too. */
  readonly archived: boolean;
  /** Config key by which the table's rows stand together. */
  readonly rowGroup: string | null;
  /** How the table looks. */
  readonly table: Table;
  /** The run whose details are shown. */
  readonly open: string | null;
  /** Whether the configs of the selected runs are shown side by side. */
  readonly compare: boolean;
  readonly selection: Selection;
  /** step, relative, wall_time, or the name of a counter. */
  readonly x: string;
  readonly log: boolean;
  /** From 0 (none) to 1; see `tauOf`. */
  readonly smoothing: number;
  /** Whether outliers widen the range of y. */
  readonly outliers: boolean;
  /** Config key whose values make a curve (mean ± std) of the runs that share it. */
  readonly group: string | null;
  /** What the band of such a curve shows: mean ± standard deviation, or from the least to the greatest run. */
  readonly spread: Spread;
  /** Regular expression that a chart's tag has to match. */
  readonly tags: string;
  readonly pinned: readonly string[];
  /** Groups of charts that are folded up. */
  readonly folded: readonly string[];
  /** How large charts are. */
  readonly size: Size;
  /** Range of x of all charts along an axis, by the axis (see `axisOf`). */
  readonly zoom: Readonly<Record<string, Zoom>>;
  /** Range of x, and of y, of single charts, by tag. */
  readonly ownZoom: Readonly<Record<string, Zoom>>;
  readonly height: Readonly<Record<string, Zoom>>;
  /** Whether a zoom is meant for one chart, not for all along its axis. */
  readonly alone: boolean;
  /** The tag whose chart fills the page. */
  readonly full: string | null;
  /** Whether what rewinds superseded is drawn, too. */
  readonly ghosts: boolean;
  /** Colours of one's own, as #rrggbb by run. */
  readonly colours: Readonly<Record<string, string>>;
  readonly sweep: Sweep;
  readonly health: Health;
}

export interface Table {
  /** Whether it fills the page, without charts. */
  readonly wide: boolean;
  /** Width of the panel beside the charts in CSS pixels; null: as wide as it is by itself. */
  readonly panel: number | null;
  /** Widths of columns that somebody chose, in CSS pixels. */
  readonly widths: Readonly<Record<string, number>>;
  /** Groups of rows that are folded up, by their value as JSON. */
  readonly folded: readonly string[];
  /** Runs whose ranks are shown. */
  readonly ranks: readonly string[];
}

export interface Sweep {
  readonly plot: 'parallel' | 'scatter';
  /** Columns of the axes, in the language of GET /runs. */
  readonly axes: readonly string[];
  /** Column that the last axis shows, and that gives the colour. */
  readonly metric: string | null;
  /** Columns of a scatter plot, and the one that gives its colour. */
  readonly x: string | null;
  readonly y: string | null;
  readonly tint: string | null;
  /** Columns that have a logarithmic scale. */
  readonly log: readonly string[];
  /** Of columns, the range that runs have to lie in: values, or places of categories. */
  readonly ranges: Readonly<Record<string, Zoom>>;
  /** Whether only selected runs are drawn. */
  readonly chosen: boolean;
}

export interface Health {
  readonly show: Show;
  /** Runs whose details are open. */
  readonly open: readonly string[];
}

export const DEFAULT: View = {
  region: 'charts',
  project: null,
  filter: '',
  sort: '-created_at',
  columns: ['status', 'age'],
  archived: false,
  rowGroup: null,
  table: { wide: false, panel: null, widths: {}, folded: [], ranks: [] },
  open: null,
  compare: false,
  selection: { kind: 'some', runs: [] },
  x: 'step',
  log: false,
  smoothing: 0,
  outliers: false,
  group: null,
  spread: 'std',
  tags: '',
  pinned: [],
  folded: [],
  size: 'medium',
  zoom: {},
  ownZoom: {},
  height: {},
  alone: false,
  full: null,
  ghosts: false,
  colours: {},
  sweep: {
    plot: 'parallel',
    axes: [],
    metric: null,
    x: null,
    y: null,
    tint: null,
    log: [],
    ranges: {},
    chosen: false,
  },
  health: { show: 'selected', open: [] },
};

/** Most entries of one list in a URL, and characters of one entry: what is beyond is not from this page. */
const ENTRIES_MAX = 2000;
const TEXT_MAX = 4000;

/** Pixels that a column or the panel can be wide. */
export const COLUMN_WIDTHS = [48, 1200] as const;
export const PANEL_WIDTHS = [240, 3000] as const;

export interface Parsed {
  view: View;
  /** What was ignored, in sentences. */
  notices: string[];
}

/** The view that a query string (with or without its `?`) stands for. */
export function parseView(query: string): Parsed {
  const given = new Given(new URLSearchParams(query));
  const view: View = {
    region: given.oneOf('view', REGIONS) ?? DEFAULT.region,
    project: given.text('project') ?? DEFAULT.project,
    filter: given.text('filter') ?? DEFAULT.filter,
    sort: given.text('sort') ?? DEFAULT.sort,
    columns: given.list('columns') ?? DEFAULT.columns,
    archived: given.flag('archived'),
    rowGroup: given.text('rows') ?? DEFAULT.rowGroup,
    table: {
      wide: given.oneOf('table', ['wide']) === 'wide',
      panel: given.number('panel', ...PANEL_WIDTHS) ?? DEFAULT.table.panel,
      widths: Object.fromEntries(given.pairs('width', widthFrom)),
      folded: given.list('foldrows') ?? DEFAULT.table.folded,
      ranks: given.list('ranks') ?? DEFAULT.table.ranks,
    },
    open: given.text('open') ?? DEFAULT.open,
    compare: given.flag('compare'),
    selection: selectionOf(given),
    x: given.text('x') || DEFAULT.x,
    log: given.oneOf('y', ['log']) === 'log',
    smoothing: given.number('smooth', 0, 1) ?? DEFAULT.smoothing,
    outliers: given.flag('outliers'),
    group: given.text('group') ?? DEFAULT.group,
    spread: given.oneOf('spread', SPREADS) ?? DEFAULT.spread,
    tags: given.pattern('tags') ?? DEFAULT.tags,
    pinned: given.list('pin') ?? DEFAULT.pinned,
    folded: given.list('fold') ?? DEFAULT.folded,
    size: given.oneOf('size', SIZES) ?? DEFAULT.size,
    zoom: Object.fromEntries(given.pairs('zoom', zoomOf)),
    ownZoom: Object.fromEntries(given.pairs('ownzoom', zoomOf)),
    height: Object.fromEntries(given.pairs('height', zoomOf)),
    alone: given.flag('alone'),
    full: given.text('full') ?? DEFAULT.full,
    ghosts: given.flag('ghosts'),
    colours: Object.fromEntries(given.pairs('colour', colourFrom)),
    sweep: {
      plot: given.oneOf('plot', ['scatter']) ?? DEFAULT.sweep.plot,
      axes: given.list('axis') ?? DEFAULT.sweep.axes,
      metric: given.text('metric') ?? DEFAULT.sweep.metric,
      x: given.text('across') ?? DEFAULT.sweep.x,
      y: given.text('up') ?? DEFAULT.sweep.y,
      tint: given.text('tint') ?? DEFAULT.sweep.tint,
      log: given.list('log') ?? DEFAULT.sweep.log,
      ranges: Object.fromEntries(given.pairs('within', zoomOf)),
      chosen: given.flag('chosen'),
    },
    health: {
      show: given.oneOf('show', SHOWS) ?? DEFAULT.health.show,
      open: given.list('watch') ?? DEFAULT.health.open,
    },
  };
  return { view, notices: given.finish() };
}

/** The query string of a view, with its `?`; '' for the view that a visitor begins with. */
export function formatView(view: View): string {
  const out = new URLSearchParams();
  const text = (name: string, value: string | null, unless: string | null) => {
    if (value !== null && value !== unless) out.append(name, value);
  };
  const list = (name: string, values: readonly string[], unless: readonly string[] = []) => {
    if (values.length === unless.length && values.every((value, i) => value === unless[i])) return;
    if (values.length) values.forEach((value) => out.append(name, value));
    else out.append(name, ''); // nothing, where something is the default
  };
  text('view', view.region, DEFAULT.region);
  text('project', view.project, null);
  text('filter', view.filter, '');
  text('sort', view.sort, DEFAULT.sort);
  list('columns', view.columns, DEFAULT.columns);
  text('archived', view.archived ? '1' : null, null);
  text('rows', view.rowGroup, null);
  text('table', view.table.wide ? 'wide' : null, null);
  text('panel', view.table.panel === null ? null : String(view.table.panel), null);
  for (const [column, width] of Object.entries(view.table.widths)) out.append('width', `${width}~${column}`);
  list('foldrows', view.table.folded);
  list('ranks', view.table.ranks);
  text('open', view.open, null);
  text('compare', view.compare ? '1' : null, null);
  if (view.selection.kind === 'some') list('run', view.selection.runs);
  else {
    out.append('all', '1');
    list('but', view.selection.but);
  }
  text('x', view.x, DEFAULT.x);
  text('y', view.log ? 'log' : null, null);
  text('smooth', view.smoothing === DEFAULT.smoothing ? null : String(view.smoothing), null);
  text('outliers', view.outliers ? '1' : null, null);
  text('group', view.group, null);
  text('spread', view.spread, DEFAULT.spread);
  text('tags', view.tags, '');
  list('pin', view.pinned);
  list('fold', view.folded);
  text('size', view.size, DEFAULT.size);
  for (const name of ['zoom', 'ownZoom', 'height'] as const)
    for (const [of, [from, to]] of Object.entries(view[name]))
      out.append(name.toLowerCase(), `${from}~${to}~${of}`);
  text('alone', view.alone ? '1' : null, null);
  text('full', view.full, null);
  text('ghosts', view.ghosts ? '1' : null, null);
  for (const [run, colour] of Object.entries(view.colours)) out.append('colour', `${colour.slice(1)}~${run}`);
  text('plot', view.sweep.plot, DEFAULT.sweep.plot);
  list('axis', view.sweep.axes);
  text('metric', view.sweep.metric, null);
  text('across', view.sweep.x, null);
  text('up', view.sweep.y, null);
  text('tint', view.sweep.tint, null);
  list('log', view.sweep.log);
  for (const [column, [from, to]] of Object.entries(view.sweep.ranges))
    out.append('within', `${from}~${to}~${column}`);
  text('chosen', view.sweep.chosen ? '1' : null, null);
  text('show', view.health.show, DEFAULT.health.show);
  list('watch', view.health.open);
  const query = String(out);
  return query && `?${query}`;
}

/** Whether a run that the filter finds is selected. */
export function isSelected(selection: Selection, run: string): boolean {
  return selection.kind === 'some' ? selection.runs.includes(run) : !selection.but.includes(run);
}

/** The selection with a run in it or not. */
export function withRun(selection: Selection, run: string, selected: boolean): Selection {
  if (isSelected(selection, run) === selected) return selection;
  const flip = (names: readonly string[], add: boolean) =>
    add ? [...names, run] : names.filter((name) => name !== run);
  return selection.kind === 'some'
    ? { kind: 'some', runs: flip(selection.runs, selected) }
    : { kind: 'all', but: flip(selection.but, !selected) };
}

function selectionOf(given: Given): Selection {
  const [runs, but] = [given.list('run') ?? [], given.list('but') ?? []];
  if (!given.flag('all')) return { kind: 'some', runs };
  if (runs.length) given.ignore('run', 'all runs are selected already');
  return { kind: 'all', but };
}

function zoomOf(text: string): [string, Zoom] | null {
  const found = /^([^~]+)~([^~]+)~(.*)$/s.exec(text);
  if (!found) return null;
  const [from, to] = [Number(found[1]), Number(found[2])];
  return Number.isFinite(from) && Number.isFinite(to) && from < to ? [found[3]!, [from, to]] : null;
}

function widthFrom(text: string): [string, number] | null {
  const found = /^(\d+)~(.+)$/s.exec(text);
  const width = Number(found?.[1] ?? NaN);
  return found && width >= COLUMN_WIDTHS[0] && width <= COLUMN_WIDTHS[1] ? [found[2]!, width] : null;
}

function colourFrom(text: string): [string, string] | null {
  const found = /^([0-9a-f]{6})~(.+)$/s.exec(text);
  return found && [found[2]!, `#${found[1]}`];
}

/** The parameters of a query string, and what of them made no sense. */
class Given {
  private readonly notices: string[] = [];
  private readonly known = new Set<string>();

  constructor(private readonly params: URLSearchParams) {}

  ignore(name: string, why: string): void {
    this.notices.push(`“${name}” in the address is ignored: ${why}.`);
  }

  text(name: string): string | null {
    const values = this.all(name);
    if (values.length > 1) this.ignore(name, 'it is there more than once');
    return values.length === 1 ? values[0]! : null;
  }

  list(name: string): string[] | null {
    const values = this.all(name);
    return values.length ? [...new Set(values.filter((value) => value !== ''))] : null;
  }

  flag(name: string): boolean {
    return this.oneOf(name, ['1']) === '1';
  }

  oneOf<T extends string>(name: string, choices: readonly T[]): T | null {
    const value = this.text(name);
    if (value === null) return null;
    const found = choices.find((choice) => choice === value);
    if (found === undefined) this.ignore(name, `it can be ${choices.join(', ')}`);
    return found ?? null;
  }

  number(name: string, least: number, most: number): number | null {
    const value = this.text(name);
    if (value === null) return null;
    const number = value.trim() === '' ? NaN : Number(value);
    if (number >= least && number <= most) return number;
    this.ignore(name, `it is a number from ${least} to ${most}`);
    return null;
  }

  pattern(name: string): string | null {
    const value = this.text(name);
    if (value === null) return null;
    try {
      new RegExp(value, 'u');
      return value;
    } catch {
      this.ignore(name, 'it is no regular expression');
      return null;
    }
  }

  pairs<T>(name: string, read: (text: string) => [string, T] | null): [string, T][] {
    const pairs = this.all(name).map(read);
    if (pairs.includes(null)) this.ignore(name, 'it can’t be understood');
    return pairs.filter((pair) => pair !== null);
  }

  /** What was ignored, parameters that mean nothing here included. */
  finish(): string[] {
    for (const name of new Set(this.params.keys()))
      if (!this.known.has(name)) this.ignore(name, 'it means nothing here');
    return this.notices;
  }

  private all(name: string): string[] {
    this.known.add(name);
    const values = this.params.getAll(name);
    const short = values.filter((value) => value.length <= TEXT_MAX).slice(0, ENTRIES_MAX);
    if (short.length < values.length) this.ignore(name, 'it is too long, in part');
    return short;
  }
}
