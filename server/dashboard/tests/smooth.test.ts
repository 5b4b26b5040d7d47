import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seedAt, smooth, tauOf, type Smoothable } from '../src/lib/smooth';

/** Points as a line, in buckets of so many points each. */
function line(xs: number[], values: number[], perBucket = 1): Smoothable {
  const columns = { x: [], x0: [], x1: [], mean: [], count: [], nonfinite: [] } as Record<string, number[]>;
  for (let i = 0; i < xs.length; i += perBucket) {
    const all = values.slice(i, i + perBucket);
    const finite = all.filter(Number.isFinite);
    const [first, last] = [xs[i]!, xs[Math.min(i + perBucket, xs.length) - 1]!];
    columns['x']!.push(first + (last - first) / 2);
    columns['x0']!.push(first);
    columns['x1']!.push(last);
    columns['mean']!.push(finite.reduce((sum, value) => sum + value, 0) / finite.length);
    columns['count']!.push(all.length);
    columns['nonfinite']!.push(all.length - finite.length);
  }
  return Object.fromEntries(
    Object.entries(columns).map(([name, column]) => [name, Float64Array.from(column)]),
  ) as unknown as Smoothable;
}

/** The definition, point by point: each with a weight that falls with its distance. */
function bruteForce(xs: number[], values: number[], tau: number, at: number): number {
  let [weighted, weight] = [0, 0];
  xs.forEach((x, i) => {
    if (x > at || !Number.isFinite(values[i])) return;
    const w = Math.exp(-(at - x) / tau);
    weighted += w * values[i]!;
    weight += w;
  });
  return weighted / weight;
}

const steps = Array.from({ length: 4096 }, (_, i) => i);
const noisy = steps.map((i) => Math.exp(-i / 1500) + 0.3 * Math.sin(i / 7) + 0.1 * Math.sin(i * 12.9898));

describe('smooth', () => {
  it('is the weighted mean of its definition, at any distances', () => {
    const point = fc.record({
      gap: fc.double({ min: 0, max: 10, noNaN: true }),
      value: fc.double({ min: -1e6, max: 1e6 }),
    });
    fc.assert(
      fc.property(
        fc.array(point, { minLength: 1, maxLength: 60 }),
        fc.double({ min: 0.1, max: 50, noNaN: true }),
        (points, tau) => {
          let x = 0;
          const xs = points.map(({ gap }) => (x += gap));
          const values = points.map(({ value }) => value);
          smooth(line(xs, values), tau).forEach((got, i) => {
            if (!Number.isFinite(values[i])) {
              expect(got).toBeNaN();
              return;
            }
            // Points at one x are taken in their order: each sees those before it.
            expect(got).toBeCloseTo(bruteForce(xs.slice(0, i + 1), values, tau, xs[i]!), 4);
          });
        },
      ),
    );
  });

  it('is TensorBoard’s debiased mean where steps are even', () => {
    const weight = 0.9;
    const tau = -1 / Math.log(weight);
    let [last, times] = [0, 0];
    const expected = noisy.slice(0, 200).map((value) => {
      last = last * weight + (1 - weight) * value;
      return last / (1 - weight ** ++times);
    });
    smooth(line(steps.slice(0, 200), noisy), tau).forEach((got, i) =>
      expect(got).toBeCloseTo(expected[i]!, 10),
    );
  });

  it('is not pulled to 0 at the start, and leaves a constant as it is', () => {
    const constant = steps.map(() => 7);
    for (const perBucket of [1, 8, 100]) {
      smooth(line(steps, constant, perBucket), 300).forEach((got) => expect(got).toBeCloseTo(7, 9));
    }
  });

  it('is the same curve however points are put into buckets', () => {
    const tau = tauOf(0.8, 4096);
    const fine = smooth(line(steps, noisy), tau);
    for (const perBucket of [2, 8, 32, 64]) {
      const coarse = line(steps, noisy, perBucket);
      smooth(coarse, tau).forEach((got, i) => {
        const x = coarse.x[i]!;
        const middle = (fine[Math.floor(x)]! + fine[Math.ceil(x)]!) / 2;
        // At the start one bucket may be all there is: of what lies in its first half only its mean is known.
        expect(Math.abs(got - middle)).toBeLessThan(x < tau ? 0.3 : 0.02);
      });
    }
  });

  it('is the same curve in a zoom that begins with a seed of the coarse one', () => {
    const tau = tauOf(0.7, 4096);
    const fine = smooth(line(steps, noisy), tau);
    const coarse = line(steps, noisy, 50);
    for (const from of [1, 49, 50, 1024, 4000]) {
      const seed = seedAt(coarse, tau, from);
      const part = line(steps.slice(from), noisy.slice(from));
      smooth(part, tau, seed).forEach((got, i) =>
        expect(Math.abs(got - fine[from + i]!)).toBeLessThan(from < 50 ? 0.35 : 0.02),
      );
      const without = smooth(part, tau)[0]!;
      if (from > 50)
        expect(Math.abs(without - fine[from]!)).toBeGreaterThan(
          Math.abs(smooth(part, tau, seed)[0]! - fine[from]!),
        );
    }
  });

  it('passes over what is not finite, and shows it as a gap', () => {
    const values = [1, NaN, 1, Infinity, 1];
    expect([...smooth(line([0, 1, 2, 3, 4], values), 2)]).toEqual([1, NaN, 1, NaN, 1]);
    const bucketed = line([0, 1, 2, 3], [2, NaN, 2, -Infinity], 2);
    smooth(bucketed, 2).forEach((got) => expect(got).toBeCloseTo(2, 12));
  });

  it('without τ is the line itself', () => {
    expect([...smooth(line([0, 1, 2], [3, NaN, 5]), 0)]).toEqual([3, NaN, 5]);
    expect(tauOf(0, 100)).toBe(0);
    expect(tauOf(0.5, 2000)).toBe(2 * tauOf(0.5, 1000));
  });
});
