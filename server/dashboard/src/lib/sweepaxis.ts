/** Axes of sweeps: where a value of a column lies between the ends, on linear and logarithmic scales or among categories. */
import { valueText } from './numbers';

/** A number, a text of a category, NaN (and ±∞), or nothing at all. */
export type Kind = 'number' | 'category';

export interface Tick {
  /** From 0 to 1. */
  readonly at: number;
  readonly text: string;
}

/** Beyond so many different texts a category's labels are not all shown, and places lie close together. */
const LABELS_MAX = 24;
const TICKS_WANTED = 5;
/** Ends that are closer together, beside their size, have one tick, and no logarithms that could be told apart. */
const NARROW = 1e-7;

export class Axis {
  /**
   * kind: of numbers, or of categories (which all else is, numbers among texts included). from, to: the ends, of
   * categories −0.5 and their count − 0.5. log: as it can be: whether there are positive numbers, and it was wanted.
   */
  private constructor(
    readonly column: string,
    readonly kind: Kind,
    readonly from: number,
    readonly to: number,
    readonly log: boolean,
    readonly categories: readonly string[],
    private readonly places: ReadonlyMap<string, number>,
  ) {}

  /** The axis that holds all these values. */
  static of(column: string, values: readonly unknown[], log = false): Axis {
    const there = values.filter((value) => !isMissing(value));
    const texts = there.filter((value) => numberOf(value) === null);
    if (texts.length) return Axis.ofCategories(column, there);
    const finite = there.map((value) => numberOf(value)!).filter(Number.isFinite);
    const positive = finite.filter((value) => value > 0);
    const scaled = log && positive.length > 0;
    const [from, to] = ends(scaled ? positive : finite, scaled);
    return new Axis(column, 'number', from, to, scaled, [], new Map());
  }

  private static ofCategories(column: string, values: readonly unknown[]): Axis {
    const names = [...new Set(values.map(categoryText))].sort(natural);
    const places = new Map(names.map((name, place) => [name, place]));
    return new Axis(column, 'category', -0.5, names.length - 0.5, false, names, places);
  }

  /** A value as this axis measures it: the number, or a category's place; NaN if it has none. */
  measure(value: unknown): number {
    if (isMissing(value)) return NaN;
    if (this.kind === 'category') return this.places.get(categoryText(value)) ?? NaN;
    const number = numberOf(value) ?? NaN;
    return Number.isFinite(number) && !(this.log && number <= 0) ? number : NaN;
  }

  /** From 0 to 1, for what is measured; NaN stays. */
  at(measured: number): number {
    const [from, to, value] = this.log
      ? [Math.log10(this.from), Math.log10(this.to), Math.log10(measured)]
      : [this.from, this.to, measured];
    return (value - from) / (to - from);
  }

  /** What lies at a place from 0 to 1. */
  invert(at: number): number {
    if (!this.log) return this.from + at * (this.to - this.from);
    const [from, to] = [Math.log10(this.from), Math.log10(this.to)];
    return 10 ** (from + at * (to - from));
  }

  /** What is measured, as text. */
  text(measured: number): string {
    if (this.kind === 'number') return valueText(measured, 3);
    return this.categories[Math.round(measured)] ?? '–';
  }

  get ticks(): Tick[] {
    if (this.kind === 'category') {
      const every = Math.ceil(this.categories.length / LABELS_MAX);
      return this.categories.flatMap((text, place) => (place % every ? [] : [{ at: this.at(place), text }]));
    }
    const values = this.log ? logTicks(this.from, this.to) : linearTicks(this.from, this.to);
    return values.map((value) => ({ at: this.at(value), text: valueText(value, 3) }));
  }
}

/** Whether there is no value. */
export function isMissing(value: unknown): boolean {
  return value === null || value === undefined;
}

/** A value of a table as a number, NaN and ±∞ among them; null if it is none. */
export function numberOf(value: unknown): number | null {
  if (typeof value === 'number') return value;
  return value === 'NaN' || value === 'Infinity' || value === '-Infinity' ? Number(value) : null;
}

/** Round values between two, about five of them. */
export function linearTicks(from: number, to: number): number[] {
  const width = to - from;
  if (!(width > 0) || !Number.isFinite(width)) return [from];
  if (width < NARROW * Math.max(Math.abs(from), Math.abs(to))) return [from];
  const rough = width / TICKS_WANTED;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((step) => width / step <= TICKS_WANTED)!;
  const first = Math.ceil(from / step - 1e-9);
  const count = Math.floor(to / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(14)));
}

/** Powers of ten between two values, some left out if they are many; in less than a decade round values. */
export function logTicks(from: number, to: number): number[] {
  const [first, last] = [Math.ceil(Math.log10(from) - 1e-9), Math.floor(Math.log10(to) + 1e-9)];
  if (last - first < 1) return linearTicks(from, to).filter((value) => value > 0);
  const every = Math.ceil((last - first + 1) / (TICKS_WANTED + 2));
  return Array.from({ length: Math.floor((last - first) / every) + 1 }, (_, i) =>
    Number(`1e${first + i * every}`),
  );
}

function categoryText(value: unknown): string {
  return typeof value === 'string'
    ? value
    : typeof value === 'number'
      ? String(value)
      : JSON.stringify(value);
}

/** Numbers in texts by their size: b2 before b10. */
function natural(one: string, other: string): number {
  return one.localeCompare(other, 'en', { numeric: true }) || (one < other ? -1 : 1);
}

function ends(values: readonly number[], log: boolean): [number, number] {
  let [from, to] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < from) from = value;
    if (value > to) to = value;
  }
  if (from > to) return [0, 1];
  if (log && to - from <= NARROW * to)
    return [Math.max(from / 2, Number.MIN_VALUE), Math.min(to * 2, Number.MAX_VALUE)];
  if (from < to && Number.isFinite(to - from)) return [from, to];
  if (from < to) return [from / 2, to / 2]; // wider than numbers go
  const margin = Math.abs(from) / 2 || 1;
  return [from - margin, to + margin];
}
