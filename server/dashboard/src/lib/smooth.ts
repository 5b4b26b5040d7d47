/**
 * Exponential smoothing whose weights follow the distance in x, so that a curve looks the same at every zoom.
 *
 * At x the smoothed value is Σ vᵢ·exp(−(x−xᵢ)/τ) / Σ exp(−(x−xᵢ)/τ) over the finite points at or before x: for evenly
 * spaced points exactly TensorBoard's debiased mean, with no pull to 0 at the start. A bucket counts as its finite
 * points, evenly spread between its ends, each with the bucket's mean.
 */

/** What smoothing reads of a line: columns of equal length, ascending in x. */
export interface Smoothable {
  /** Where a value is drawn: a point's x, the middle of a bucket. */
  x: Float64Array;
  /** First and last x of a bucket; of a point both are its x. */
  x0: Float64Array;
  x1: Float64Array;
  /** Mean of the finite points, NaN where there is none. */
  mean: Float64Array;
  /** How many points, and how many of them are not finite. */
  count: Float64Array;
  nonfinite: Float64Array;
}

/** What lies left of a place, summed up: `weighted / weight` is the smoothed value at `x`. */
export interface Seed {
  x: number;
  weighted: number;
  weight: number;
}

/** The slider's full turn is a τ of this share of a run's range. */
const TAU_SHARE_MAX = 0.2;

/** τ for a slider from 0 (none) to 1, as a share of the whole range of x that the run has, not of what is in sight. */
export function tauOf(smoothing: number, xRange: number): number {
  const turn = Math.min(1, Math.max(0, smoothing));
  return turn ** 3 * TAU_SHARE_MAX * Math.max(0, xRange);
}

/**
 * The smoothed value at each of a line's x; NaN where the line has no finite value.
 *
 * seed: what lies left of the line (see `seedAt`), if this is a part of a longer one.
 */
export function smooth(line: Smoothable, tau: number, seed?: Seed): Float64Array {
  if (!(tau > 0)) return line.mean.slice();
  const smoothed = new Float64Array(line.x.length);
  const sum = new Sum(tau, seed);
  for (let i = 0; i < smoothed.length; i++) smoothed[i] = sum.take(line, i);
  return smoothed;
}

/** What of a (coarse) line lies left of x, as a beginning for the finer part from there on. */
export function seedAt(line: Smoothable, tau: number, x: number): Seed {
  const sum = new Sum(tau);
  for (let i = 0; i < line.x.length && line.x0[i]! < x; i++) {
    if (line.x1[i]! < x) sum.take(line, i);
    else sum.takePart(line, i, x);
  }
  return sum.at(x);
}

class Sum {
  private weighted: number;
  private weight: number;
  private x: number;

  constructor(
    private readonly tau: number,
    seed?: Seed,
  ) {
    this.weighted = seed?.weighted ?? 0;
    this.weight = seed?.weight ?? 0;
    this.x = seed?.x ?? -Infinity;
  }

  /** Take a whole bucket or point; the smoothed value at its middle. */
  take(line: Smoothable, i: number): number {
    const [x, x0, x1, mean] = [line.x[i]!, line.x0[i]!, line.x1[i]!, line.mean[i]!];
    const points = line.count[i]! - line.nonfinite[i]!;
    if (!(points > 0)) return NaN;
    this.moveTo(x0);
    // Up to the middle: its first half, or the point itself.
    const kept = Math.exp(-(x - x0) / this.tau);
    const half = (points > 1 ? points / 2 : 1) * this.spread(x - x0);
    const value = (this.weighted * kept + mean * half) / (this.weight * kept + half);
    this.add(mean, points, x1 - x0);
    this.x = x1;
    return value;
  }

  /** Take what of a bucket lies left of x. */
  takePart(line: Smoothable, i: number, x: number): void {
    const [x0, x1] = [line.x0[i]!, line.x1[i]!];
    const points = line.count[i]! - line.nonfinite[i]!;
    if (!(points > 0)) return;
    this.moveTo(x0);
    this.add(line.mean[i]!, (points * (x - x0)) / (x1 - x0), x - x0);
    this.x = x;
  }

  at(x: number): Seed {
    this.moveTo(x);
    return { x, weighted: this.weighted, weight: this.weight };
  }

  private add(mean: number, points: number, width: number): void {
    const kept = Math.exp(-width / this.tau);
    const weight = points * this.spread(width);
    this.weighted = this.weighted * kept + mean * weight;
    this.weight = this.weight * kept + weight;
  }

  private moveTo(x: number): void {
    const kept = this.x === -Infinity ? 1 : Math.exp(-Math.max(0, x - this.x) / this.tau);
    this.weighted *= kept;
    this.weight *= kept;
    this.x = x;
  }

  /** Mean weight of points evenly spread over a width that ends here. */
  private spread(width: number): number {
    const share = width / this.tau;
    return share < 1e-6 ? 1 : -Math.expm1(-share) / share;
  }
}
