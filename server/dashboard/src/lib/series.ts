/**
 * Answers of POST /query as lines to draw: flat columns of numbers, and what of them an answer to `since` changes.
 *
 * Points and buckets become the same kind of sample: a point is a bucket of one. Steps are int64 on the wire and drawn as
 * float64, which tells apart all below 2⁵³ (see `ranges.asked`).
 */
import type { components } from '../api/schema';
import type { Smoothable } from './smooth';

type Schemas = components['schemas'];

/** A Chart as it comes in MessagePack: columns are little-endian binary, which is what browsers' machines have, too. */
export type Answer = Omit<Schemas['Chart'], 'series' | 'groups'> & {
  series: Series[];
  groups?: Group[] | null;
};
export type Series = Omit<Schemas['Series'], 'points' | 'buckets' | 'lean'> & {
  points?: Points;
  buckets?: Buckets;
  lean?: Lean;
};
export type Lean = { [Column in keyof Schemas['Lean']]: Uint8Array };
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
  /** Least and greatest finite value, NaN where there is none. */
  min: Float64Array;
  max: Float64Array;
  /** Value of the first and the last point of each sample, also where it is NaN or ±Inf. */
  first: Float64Array;
  last: Float64Array;
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

/** What of each bucket is asked for: all that a line holds. */
export const FIELDS = ['x', 'end', 'first', 'min', 'max', 'last', 'mean', 'count', 'nonfinite'] as const;

const COLUMNS = ['x', 'x0', 'x1', 'mean', 'count', 'nonfinite', 'min', 'max', 'first', 'last'] as const;

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

/**
 * A series, as an answer to `FIELDS` has it, as a line of its own; along: the question's x, which says whether the column
 * x is of int64 or float64.
 */
export function lineOf(series: Series, along: string): Line {
  if (!series.lean) throw new TypeError('a series has no columns');
  const columns = columnsOf(series.lean, series.merged ?? false, xsAlong(along));
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
    count: int64(points.count),
    mean: floats(points.mean),
    std: floats(points.std),
    min: floats(points.min),
    max: floats(points.max),
  }));
}

function xsAlong(along: string): Xs {
  return along === 'relative' || along === 'wall_time' ? floats : int64;
}

type Columns = Pick<Line, (typeof COLUMNS)[number]>;
type Xs = (column: Uint8Array) => Float64Array;

function columnsOf(lean: Lean, merged: boolean, xs: Xs): Columns {
  return merged ? ofBuckets(lean, xs) : ofPoints(lean, xs);
}

function ofPoints(lean: Lean, xs: Xs): Columns {
  const x = xs(given(lean.x));
  const value = floats(given(lean.value));
  const whole = value.every(Number.isFinite);
  const finite = whole ? value : value.map((v) => (Number.isFinite(v) ? v : NaN));
  const count = new Float64Array(x.length).fill(1);
  const nonfinite = whole ? new Float64Array(x.length) : value.map((v) => (Number.isFinite(v) ? 0 : 1));
  const own = { x, x0: x, x1: x, mean: finite, min: finite, max: finite, first: value, last: value };
  return { ...own, count, nonfinite };
}

function ofBuckets(lean: Lean, xs: Xs): Columns {
  const [x0, x1] = [xs(given(lean.x)), xs(given(lean.end))];
  return {
    x: x0.map((x, i) => x + (x1[i]! - x) / 2),
    x0,
    x1,
    mean: floats(given(lean.mean)),
    min: floats(given(lean.min)),
    max: floats(given(lean.max)),
    first: floats(given(lean.first)),
    last: floats(given(lean.last)),
    count: int64(given(lean.count)),
    nonfinite: int64(given(lean.nonfinite)),
  };
}

function given(column: Uint8Array | undefined): Uint8Array {
  if (column === undefined) throw new TypeError('a series lacks a column');
  return column;
}

/** One line after another; all columns in one piece of memory, because this is done for every line at every update. */
function joined(before: Line, after: Line): Line {
  const length = before.length + after.length;
  const line: Line = { ...after, points: before.points + after.points, length };
  line.appended = before.appended + after.length;
  const all = new Float64Array(COLUMNS.length * length);
  COLUMNS.forEach((name, i) => {
    const column = all.subarray(i * length, (i + 1) * length);
    column.set(before[name]);
    column.set(after[name], before.length);
    line[name] = column;
  });
  // Of single points some columns are the same one, by which is told that there is no band.
  if (before.min === before.max && after.min === after.max) line.max = line.min;
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

/** int64 as float64, rounded if they are beyond 2⁵³. Without a bigint for each, which takes twenty times as long. */
function int64(column: Uint8Array): Float64Array {
  const halves = new Int32Array(aligned(column));
  const numbers = new Float64Array(halves.length / 2);
  for (let i = 0; i < numbers.length; i++) numbers[i] = halves[2 * i + 1]! * 2 ** 32 + (halves[2 * i]! >>> 0);
  return numbers;
}
