/**
 * Answers of POST /query as lines to draw: flat columns of numbers, and what of them an answer to `since` changes.
 *
 * Points and buckets become the same kind of sample: a point is a bucket of one. Steps are int64 on the wire; they are
 * kept exactly in `step`, and drawn as float64, which tells apart all below 2⁵³ (see `ranges.asked`).
 */
import type { components } from '../api/schema';
import type { Smoothable } from './smooth';

type Schemas = components['schemas'];

/** A Chart as it comes in MessagePack: columns are little-endian binary, which is what browsers' machines have, too. */
export type Answer = Omit<Schemas['Chart'], 'series' | 'groups'> & {
  series: Series[];
  groups?: Group[] | null;
};
export type Series = Omit<Schemas['Series'], 'points' | 'buckets'> & { points?: Points; buckets?: Buckets };
export type Points = { [Column in keyof Schemas['Points']]: Uint8Array };
export type Buckets = {
  [Column in keyof Schemas['Buckets']]: Column extends 'first' | 'min' | 'max' | 'last' ? Points : Uint8Array;
};
export type Group = Omit<Schemas['Group'], 'points'> & {
  points: { [Column in keyof Schemas['GroupColumns']]: Uint8Array };
};
type Missing = Schemas['Missing'];

/** One tag of one run (or what a rewind superseded of it): columns of equal length, ascending in x. */
export interface Line extends Smoothable {
  run: string;
  tag: string;
  counter: string;
  /** Of a superseded line, the attempt that it shows; null: the visible curve. */
  attempt: number | null;
  writer: string | null;
  /** How another counter's x was found; null on the other axes. */
  xSource: 'recorded' | 'as_of_time' | null;
  /** Points of all samples together. */
  points: number;
  /** How many samples there are, and how many of them came by appending. */
  length: number;
  appended: number;
  /** Least and greatest finite value, NaN where there is none; and where they are. */
  min: Float64Array;
  max: Float64Array;
  minX: Float64Array;
  maxX: Float64Array;
  /** Value of the last point of each sample (also where it is NaN or ±Inf), its step and wall time. */
  last: Float64Array;
  step: BigInt64Array;
  time: Float64Array;
}

/** One tag across the runs that share a value of a config key: columns of equal length over common places x. */
export interface Band {
  value: unknown;
  tag: string;
  runs: number;
  nonfinite: number;
  x: Float64Array;
  count: Float64Array;
  mean: Float64Array;
  std: Float64Array;
  min: Float64Array;
  max: Float64Array;
}

/** What an answer changed: lines to take over, lines that are gone. */
export interface Changes {
  cursor: string | null;
  changed: string[];
  gone: string[];
}

/** Lines by `lineKey`. */
export type Lines = Map<string, Line>;

const FLOATS = [
  'x',
  'x0',
  'x1',
  'mean',
  'count',
  'nonfinite',
  'min',
  'max',
  'minX',
  'maxX',
  'last',
  'time',
] as const;

/** What a line is called in `Lines`. Neither runs nor tags hold control characters. */
export function lineKey(run: string, tag: string, attempt: number | null = null): string {
  return attempt === null ? `${run}\n${tag}` : `${run}\n${tag}\n${attempt}`;
}

/**
 * Take an answer (a decoded MessagePack Chart) into what is held, in place: what is missing goes first, then series
 * follow what is there or replace it. Raises TypeError if it is no such answer.
 */
export function apply(held: Lines, answer: Answer): Changes {
  const gone = answer.missing.flatMap((missing) => drop(held, missing));
  const changed = answer.series.map((series) => {
    const attempt = series.superseded ? (series.attempt ?? null) : null;
    const key = lineKey(series.run, series.tag, attempt);
    const read = lineOf(series, answer.x);
    const before = held.get(key);
    held.set(key, series.append && before ? joined(before, read) : read);
    return key;
  });
  return { cursor: answer.cursor ?? null, changed, gone: gone.filter((key) => !held.has(key)) };
}

function drop(held: Lines, missing: Missing): string[] {
  let keys: string[];
  if (typeof missing.tag === 'string') keys = [lineKey(missing.run, missing.tag, missing.attempt ?? null)];
  else keys = [...held].filter(([, line]) => line.run === missing.run).map(([key]) => key);
  return keys.filter((key) => held.delete(key));
}

/** A series as a line of its own; along: the question's x, which says whether the column x is of int64 or float64. */
export function lineOf(series: Series, along: string): Line {
  const xs = xsAlong(along);
  const columns = series.buckets ? ofBuckets(series.buckets, xs) : ofPoints(series.points, xs);
  let points = 0;
  for (const count of columns.count) points += count;
  return {
    run: series.run,
    tag: series.tag,
    counter: series.counter,
    attempt: series.superseded ? (series.attempt ?? null) : null,
    writer: series.writer ?? null,
    xSource: series.x_source ?? null,
    points,
    length: columns.x.length,
    appended: 0,
    ...columns,
  };
}

/** The groups of an answer. */
export function bandsOf(answer: Answer): Band[] {
  const xs = xsAlong(answer.x);
  return (answer.groups ?? []).map(({ value, tag, runs, nonfinite, points }) => ({
    value,
    tag,
    runs,
    nonfinite,
    x: xs(points.x),
    count: whole(int64(points.count)),
    mean: floats(points.mean),
    std: floats(points.std),
    min: floats(points.min),
    max: floats(points.max),
  }));
}

function xsAlong(along: string): Xs {
  return along === 'relative' || along === 'wall_time' ? floats : (column) => whole(int64(column));
}

type Columns = Pick<Line, (typeof FLOATS)[number] | 'step'>;
type Xs = (column: Uint8Array) => Float64Array;

function ofPoints(points: Points | undefined, xs: Xs): Columns {
  if (!points) throw new TypeError('a series has neither points nor buckets');
  const value = floats(points.value);
  const step = int64(points.step);
  const x = points.x ? xs(points.x) : whole(step);
  const finite = value.map((v) => (Number.isFinite(v) ? v : NaN));
  const count = new Float64Array(x.length).fill(1);
  const nonfinite = value.map((v) => (Number.isFinite(v) ? 0 : 1));
  const own = { x, x0: x, x1: x, minX: x, maxX: x, mean: finite, min: finite, max: finite, last: value };
  return { ...own, step, time: floats(points.wall_time), count, nonfinite };
}

function ofBuckets(buckets: Buckets, xs: Xs): Columns {
  const xOf = (points: Points) => (points.x ? xs(points.x) : whole(int64(points.step)));
  const x0 = xOf(buckets.first);
  const x1 = xOf(buckets.last);
  const min = floats(buckets.min.value);
  const where = (x: number, i: number) => (Number.isNaN(min[i]!) ? NaN : x);
  return {
    x: x0.map((x, i) => x + (x1[i]! - x) / 2),
    x0,
    x1,
    mean: floats(buckets.mean),
    min,
    max: floats(buckets.max.value),
    minX: xOf(buckets.min).map(where),
    maxX: xOf(buckets.max).map(where),
    last: floats(buckets.last.value),
    step: int64(buckets.last.step),
    time: floats(buckets.last.wall_time),
    count: whole(int64(buckets.count)),
    nonfinite: whole(int64(buckets.nonfinite)),
  };
}

function joined(before: Line, after: Line): Line {
  const line: Line = { ...after, points: before.points + after.points, length: before.length + after.length };
  line.appended = before.appended + after.length;
  for (const name of FLOATS) {
    const column = new Float64Array(line.length);
    column.set(before[name]);
    column.set(after[name], before.length);
    line[name] = column;
  }
  line.step = new BigInt64Array(line.length);
  line.step.set(before.step);
  line.step.set(after.step, before.length);
  return line;
}

/** Columns stand anywhere in an answer, typed arrays must begin at a multiple of eight bytes: so they are copied. */
function aligned(column: Uint8Array): ArrayBuffer {
  if (!(column instanceof Uint8Array) || column.byteLength % 8)
    throw new TypeError('this is no column of 8 bytes each');
  return new Uint8Array(column).buffer;
}

function floats(column: Uint8Array): Float64Array {
  return new Float64Array(aligned(column));
}

function int64(column: Uint8Array): BigInt64Array {
  return new BigInt64Array(aligned(column));
}

function whole(column: BigInt64Array): Float64Array {
  return Float64Array.from(column, Number);
}
