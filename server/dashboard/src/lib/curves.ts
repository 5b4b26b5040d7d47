/** Lines and groups as what is drawn: a curve, the band about it, and what both are called. */
import type { Band, Line, Lines } from './series';

import { seedAt, smooth, tauOf, type Smoothable } from './smooth';
import type { Spread } from './view';

/** One curve: columns of equal length, ascending in x. */
export interface Curve {
  key: string;
  /** The run; null for a group of runs. */
  run: string | null;
  name: string;
  /** What distinguishes it from another of the same name: an attempt, how many runs it is made of. */
  note: string;
  colour: string;
  /** Whether it is what a rewind superseded. */
  ghost: boolean;
  /** Where values are drawn, and the stretch that each stands for. */
  x: Float64Array;
  x0: Float64Array;
  x1: Float64Array;
  mean: Float64Array;
  /** What is drawn in the place of `mean`; null without smoothing. */
  smoothed: Float64Array | null;
  /** Ends of the band: least and greatest value of a bucket; of groups, by choice, mean ± std. */
  low: Float64Array;
  high: Float64Array;
  /** Points in each sample; of groups, runs that reach there. */
  count: Float64Array;
  line: Line | null;
  band: Band | null;
}

export interface Naming {
  label(run: string): string;
  colour(run: string): string;
  /** Of a group, by its value as text. */
  groupColour(value: string): string;
}

/** Smoothing is worked out once for each line that stays as it is. */
export class Smoother {
  private kept = new Map<
    string,
    { line: Smoothable; whole: Smoothable; turn: number; values: Float64Array }
  >();
  private next: typeof this.kept = new Map();

  /** The smoothed values of a line that is a part of `whole`, or all of it; null for a turn of 0. */
  of(key: string, line: Smoothable, whole: Smoothable, turn: number): Float64Array | null {
    if (!turn || !line.x.length) return null;
    const before = this.kept.get(key);
    const same = before && before.line === line && before.whole === whole && before.turn === turn;
    const values = same ? before.values : smoothedOf(line, whole, turn);
    this.next.set(key, { line, whole, turn, values });
    return values;
  }

  /** Forget what was not asked for since the last call. */
  turn(): void {
    this.kept = this.next;
    this.next = new Map();
  }
}

/** The lines' curves: what is superseded first, so that it lies below. whole: the same lines over all of x. */
export function curvesOfLines(
  lines: Lines,
  whole: Lines,
  smoothing: number,
  naming: Naming,
  smoother: Smoother,
): Curve[] {
  const curves = [...lines].map(([key, line]): Curve => {
    const ghost = line.attempt !== null;
    return {
      key,
      run: line.run,
      name: naming.label(line.run),
      note: ghost ? `attempt ${line.attempt}, superseded` : '',
      colour: naming.colour(line.run),
      ghost,
      x: line.x,
      x0: line.x0,
      x1: line.x1,
      mean: line.mean,
      smoothed: ghost ? null : smoother.of(key, line, whole.get(key) ?? line, smoothing),
      low: line.min,
      high: line.max,
      count: line.count,
      line,
      band: null,
    };
  });
  smoother.turn();
  return curves.sort((a, b) => Number(b.ghost) - Number(a.ghost));
}

/** The groups' curves. key: what they are grouped by, for their names. */
export function curvesOfBands(
  bands: readonly Band[],
  wholeBands: readonly Band[],
  by: string,
  spread: Spread,
  smoothing: number,
  naming: Naming,
  smoother: Smoother,
): Curve[] {
  const whole = new Map(wholeBands.map((band) => [bandKey(band), band]));
  const curves = bands.map((band): Curve => {
    const key = bandKey(band);
    const line = smoothable(band);
    const all = whole.get(key);
    const std = spread === 'std';
    return {
      key,
      run: null,
      name: groupName(by, band.value),
      note: band.runs === 1 ? '1 run' : `${band.runs} runs`,
      colour: naming.groupColour(key),
      ghost: false,
      x: band.x,
      x0: band.x,
      x1: band.x,
      mean: band.mean,
      smoothed: smoother.of(key, line, all ? smoothable(all) : line, smoothing),
      low: std ? band.mean.map((mean, i) => mean - band.std[i]!) : band.min,
      high: std ? band.mean.map((mean, i) => mean + band.std[i]!) : band.max,
      count: band.count,
      line: null,
      band,
    };
  });
  smoother.turn();
  return curves;
}

/**
 * What names begin with in common, up to their last slash: what need not be said of each. Nothing if there is one name.
 */
export function commonBeginning(names: Iterable<string>): string {
  let common: string | null = null;
  let several = false;
  for (const name of names) {
    if (common === null) common = name.slice(0, name.lastIndexOf('/') + 1);
    else several = true;
    while (!name.startsWith(common)) common = common.slice(0, common.lastIndexOf('/', common.length - 2) + 1);
  }
  return several ? (common ?? '') : '';
}

/** The value of a group as a text that tells it from the others. */
export function bandKey(band: Band): string {
  return JSON.stringify(band.value) ?? 'null';
}

/** What a group is called: `lr = 0.1`, `lr: none`; of ranks their run, of all runs just that. */
export function groupName(by: string, value: unknown): string {
  if (by === ALL_RUNS) return 'all runs';
  if (by === RANKS) return String(value);
  const name = by.replace(/^config\./, '');
  if (value === null || value === undefined) return `${name}: none`;
  return `${name} = ${typeof value === 'string' ? value : JSON.stringify(value)}`;
}

/** Not keys of a config: all runs together, and runs that are ranks of the same one. See docs/charts.md. */
export const ALL_RUNS = 'run.all';
export const RANKS = 'run.ranks';

const kept = new WeakMap<Band, Smoothable>();

/** A band's mean as points, always the same object for the same band. */
function smoothable(band: Band): Smoothable {
  let found = kept.get(band);
  if (!found) {
    const { x, mean } = band;
    const count = new Float64Array(x.length).fill(1);
    found = { x, x0: x, x1: x, mean, count, nonfinite: new Float64Array(x.length) };
    kept.set(band, found);
  }
  return found;
}

function smoothedOf(line: Smoothable, whole: Smoothable, turn: number): Float64Array {
  const all = whole.x.length ? whole : line;
  const tau = tauOf(turn, all.x1[all.x1.length - 1]! - all.x0[0]!);
  return smooth(line, tau, all === line ? undefined : seedAt(all, tau, line.x0[0]!));
}

/** The lines of a run that a highlight is about. */
export function isOf(curve: Curve, key: string | null): boolean {
  return key !== null && (curve.key === key || curve.run === key);
}
