import { describe, expect, it } from 'vitest';
import { contrast, DARK_BACKGROUND, LIGHT_BACKGROUND, linear, luminance, oklab } from '../src/lib/colours';
import { colourAt, DARK_SCALE, LIGHT_SCALE } from '../src/lib/colourscale';

describe.each([
  ['light', LIGHT_SCALE, LIGHT_BACKGROUND],
  ['dark', DARK_SCALE, DARK_BACKGROUND],
])('the scale for %s', (_, scale, background) => {
  it('stands out from its background everywhere', () => {
    expect(Math.min(...scale.map((colour) => contrast(colour, background)))).toBeGreaterThanOrEqual(3);
  });

  it('is as far from step to step all along, but for 15 %', () => {
    const labs = scale.filter((_, i) => i % 15 === 0).map((colour) => oklab(linear(colour)));
    const gaps = labs
      .slice(1)
      .map(([l, a, b], i) => Math.hypot(l - labs[i]![0], a - labs[i]![1], b - labs[i]![2]));
    const mean = gaps.reduce((sum, gap) => sum + gap) / gaps.length;
    for (const gap of gaps) expect(Math.abs(gap / mean - 1)).toBeLessThan(0.15);
  });

  it('can be read without hues', () => {
    const values = scale.map(luminance);
    const rising = values[0]! < values.at(-1)!;
    const sorted = [...values].sort((a, b) => (rising ? a - b : b - a));
    const off = Math.max(...values.map((value, i) => Math.abs(value - sorted[i]!)));
    expect(off).toBeLessThan(0.005); // rounding to 8 bits
  });

  it('has a colour for each place, none for NaN', () => {
    expect([colourAt(scale, 0), colourAt(scale, 1), colourAt(scale, -1), colourAt(scale, 7)]).toEqual([
      scale[0],
      scale[255],
      scale[0],
      scale[255],
    ]);
    expect(colourAt(scale, NaN)).toBeNull();
  });
});
