/** Text of an axis' ticks: as short as can be while neighbours differ. */
import { durationText, shortText, stepText, valueText } from './numbers';

const DIGITS_MIN = 3;
const DIGITS_MAX = 15;
/** Distances between ticks on an axis of seconds: such as people count time in. */
export const SECONDS: readonly number[] = [
  1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200,
  10_800, 21_600, 43_200, 86_400, 172_800, 432_000, 864_000, 1_728_000, 4_320_000, 8_640_000, 31_536_000, 315_360_000,
]; // prettier-ignore

/** Distances between ticks for a range of any size: 1, 2 and 5 by powers of ten. */
export function distances(from: number, to: number): number[] {
  const largest = Math.floor(Math.log10(to - from || 1)) + 1;
  const powers = Array.from({ length: 6 }, (_, i) => largest - 5 + i);
  return powers.flatMap((power) => [1, 2, 5].map((times) => Number(`${times}e${power}`)));
}

/** Values, so many apart. */
export function valueTicks(ticks: readonly (number | null)[], apart: number): (string | null)[] {
  const largest = Math.max(...ticks.map((tick) => Math.abs(tick ?? 0)));
  const digits = apart > 0 && largest > 0 ? Math.ceil(Math.log10(largest / apart)) + 1 : DIGITS_MIN;
  const wanted = Math.min(DIGITS_MAX, Math.max(DIGITS_MIN, digits));
  return ticks.map((tick) => (tick === null ? null : valueText(tick, wanted)));
}

/** Steps: 12k, 14k, 16k; in full where that does not tell them apart. */
export function stepTicks(ticks: readonly number[]): string[] {
  const short = ticks.map((tick) => shortText(tick));
  return new Set(short).size === short.length ? short : ticks.map((tick) => tickText(tick));
}

/** Seconds since the first point. */
export function secondTicks(ticks: readonly number[]): string[] {
  return ticks.map((tick) => (tick === 0 ? '0' : durationText(tick)));
}

function tickText(tick: number): string {
  return Number.isInteger(tick) ? stepText(tick) : valueText(tick, DIGITS_MAX);
}
