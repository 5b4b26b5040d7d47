/**
 * Colours for values, from low to high, perceptually uniform: equal steps of value look like equal steps of colour.
 *
 * Lightness goes one way and hue turns with it, so it can be read without hues, too. Every colour stands out by at least
 * 3:1 from its background: there is one scale for the light page and one for the dark.
 */
import { fromOklch, toHex } from './colours';

const STEPS = 256;
const FINE = 2_048;
/** From low to high: OKLCH lightness and hue (degrees); chroma is as much as fits, up to a limit. */
const LIGHT = { lightness: [0.66, 0.26], hue: [75, 295], chroma: 0.14 } as const;
const DARK = { lightness: [0.54, 0.92], hue: [290, 105], chroma: 0.14 } as const;

/** The scale's colours, as #rrggbb. */
export type Scale = readonly string[];

export const LIGHT_SCALE: Scale = made(LIGHT);
export const DARK_SCALE: Scale = made(DARK);

/** The colour at a place from 0 to 1; null for NaN. */
export function colourAt(scale: Scale, at: number): string | null {
  if (Number.isNaN(at)) return null;
  return scale[Math.min(STEPS - 1, Math.max(0, Math.floor(at * STEPS)))]!;
}

type Lab = readonly [number, number, number];

/** The curve walked in steps of equal length in OKLab. */
function made({ lightness, hue, chroma }: typeof LIGHT | typeof DARK): Scale {
  const points = Array.from({ length: FINE }, (_, i): { lab: Lab; hex: string } => {
    const at = i / (FINE - 1);
    const l = lightness[0] + at * (lightness[1] - lightness[0]);
    const h = hue[0] + at * (hue[1] - hue[0]);
    return fitting(l, h, chroma);
  });
  const lengths = [0];
  for (let i = 1; i < FINE; i++) lengths.push(lengths[i - 1]! + distance(points[i - 1]!.lab, points[i]!.lab));
  const total = lengths[FINE - 1]!;
  let i = 0;
  return Array.from({ length: STEPS }, (_, step) => {
    while (i < FINE - 1 && lengths[i]! < (total * step) / (STEPS - 1)) i++;
    return points[i]!.hex;
  });
}

/** The colour of this lightness and hue with as much chroma as sRGB has of it, up to a limit. */
function fitting(l: number, hue: number, chroma: number): { lab: Lab; hex: string } {
  const fits = (c: number) => fromOklch(l, c, hue).every((value) => value >= 0 && value <= 1);
  let [low, high] = [0, chroma];
  if (fits(chroma)) low = chroma;
  while (high - low > 1e-6) {
    const middle = (low + high) / 2;
    if (fits(middle)) low = middle;
    else high = middle;
  }
  const turn = (hue * Math.PI) / 180;
  return { lab: [l, low * Math.cos(turn), low * Math.sin(turn)], hex: toHex(fromOklch(l, low, hue)) };
}

function distance(a: Lab, b: Lab): number {
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}
