import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  colourOf,
  contrast,
  DARK_BACKGROUND,
  LIGHT_BACKGROUND,
  linear,
  oklab,
  PALETTE,
  placeOf,
} from '../src/lib/colours';

type Linear = [number, number, number];

/** How protanopes and deuteranopes see: Viénot, Brettel, Mollon 1999, on linear light. */
const SEEN: Record<string, (colour: Linear) => Linear> = {
  'all hues': (colour) => colour,
  protanopia: ([r, g, b]) => [0.1124 * r + 0.8876 * g, 0.1124 * r + 0.8876 * g, 0.004 * r - 0.004 * g + b],
  deuteranopia: ([r, g, b]) => [
    0.2928 * r + 0.7072 * g,
    0.2928 * r + 0.7072 * g,
    -0.0223 * r + 0.0223 * g + b,
  ],
};

function distance(one: string, other: string, seen: (colour: Linear) => Linear): number {
  const [a, b] = [oklab(seen(linear(one))), oklab(seen(linear(other)))];
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

describe('the palette', () => {
  it('stands out from both backgrounds by 3:1', () => {
    for (const colour of PALETTE) {
      expect(contrast(colour, LIGHT_BACKGROUND)).toBeGreaterThanOrEqual(3);
      expect(contrast(colour, DARK_BACKGROUND)).toBeGreaterThanOrEqual(3);
    }
  });

  it('has no two colours alike', () => {
    PALETTE.forEach((one, i) =>
      PALETTE.slice(i + 1).forEach((other) =>
        expect(distance(one, other, SEEN['all hues']!)).toBeGreaterThan(0.05),
      ),
    );
  });

  it.each(Object.keys(SEEN))('has neighbours that differ for those who see %s', (kind) => {
    PALETTE.forEach((colour, i) => {
      const next = PALETTE[(i + 1) % PALETTE.length]!;
      expect(distance(colour, next, SEEN[kind]!)).toBeGreaterThan(kind === 'all hues' ? 0.2 : 0.09);
    });
  });
});

describe('colourOf', () => {
  it('hangs on the name alone', () => {
    fc.assert(
      fc.property(fc.string(), (name) => {
        expect(PALETTE).toContain(colourOf(name));
        expect(colourOf(name)).toBe(colourOf(name, { other: '#000000' }));
      }),
    );
    expect(colourOf('mnist/try1')).toBe(PALETTE[placeOf('mnist/try1')]);
  });

  it('gives names that differ by a number consecutive places', () => {
    const names = Array.from({ length: PALETTE.length }, (_, i) => `sweep/lr0.1-seed${i + 5}`);
    expect(new Set(names.map((name) => colourOf(name))).size).toBe(PALETTE.length);
    expect((placeOf('try2') - placeOf('try1') + PALETTE.length) % PALETTE.length).toBe(1);
    expect(placeOf('run/99999999999999999999999')).toBeGreaterThanOrEqual(0);
  });

  it('takes a choice of one’s own, and no property of objects for one', () => {
    expect(colourOf('a', { a: '#123456' })).toBe('#123456');
    expect(PALETTE).toContain(colourOf('constructor', {}));
  });
});
