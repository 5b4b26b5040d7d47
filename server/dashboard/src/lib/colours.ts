/**
 * A colour by the run's name, the same in every view and every browser.
 *
 * The palette's colours are made in OKLCH, of luminances that stand out by at least 3:1 (WCAG 1.4.11) from the light
 * background and from the dark one, so a run has one colour in both. Names that differ by a number (`try1`, `try2`) take
 * consecutive places, and these lie far apart in hue, and in lightness for those who see fewer hues.
 */

export const LIGHT_BACKGROUND = '#ffffff';
export const DARK_BACKGROUND = '#15181d';

const PLACES = 20;
/** Between neighbours, in degrees: seven twentieths of the circle, so that after 20 each hue was there once. */
const HUE_STEP = (360 * 7) / PLACES;
const FIRST_HUE = 210;
/** Relative luminance, by turns: the ends of what is 3:1 against the dark background and against white. */
const LUMINANCES = [0.14, 0.29];
const CHROMA = 0.17;

/** The palette, as #rrggbb. */
export const PALETTE: readonly string[] = Array.from({ length: PLACES }, (_, place) =>
  ofLuminance(FIRST_HUE + place * HUE_STEP, LUMINANCES[place % LUMINANCES.length]!),
);

/** The run's colour: one's own choice, or what its name stands for. */
export function colourOf(run: string, chosen: Readonly<Record<string, string>> = {}): string {
  return (Object.hasOwn(chosen, run) ? chosen[run] : undefined) ?? PALETTE[placeOf(run)]!;
}

/** Where in the palette a name is: by its text without the last number in it, moved on by that number. */
export function placeOf(name: string): number {
  const found = /^(.*?)(\d+)(\D*)$/s.exec(name);
  if (!found) return hash(name) % PLACES;
  const number = Number(BigInt(found[2]!) % BigInt(PLACES));
  return (hash(`${found[1]}#${found[3]}`) + number) % PLACES;
}

/** Contrast of two colours by WCAG, from 1 to 21. */
export function contrast(one: string, other: string): number {
  const [a, b] = [luminance(one), luminance(other)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

/** Relative luminance by WCAG of #rrggbb. */
export function luminance(hex: string): number {
  const [r, g, b] = linear(hex);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** #rrggbb as linear light, 0 to 1 each. */
export function linear(hex: string): [number, number, number] {
  const channel = (at: number) => {
    const value = parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return [channel(1), channel(3), channel(5)];
}

/** Linear light as OKLab. Source: Björn Ottosson, “A perceptual color space for image processing”. */
export function oklab([r, g, b]: readonly [number, number, number]): [number, number, number] {
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

/** FNV-1a over UTF-16 code units, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}

/** The colour of a hue with this luminance, as much chroma as sRGB has of it. */
function ofLuminance(hue: number, wanted: number): string {
  for (let chroma = CHROMA; ; chroma -= 0.005) {
    let [low, high] = [0, 1];
    while (high - low > 1e-5) {
      const middle = (low + high) / 2;
      if (luminanceOf(fromOklch(middle, chroma, hue)) < wanted) low = middle;
      else high = middle;
    }
    const colour = fromOklch(low, chroma, hue);
    if (chroma <= 0 || colour.every((value) => value >= 0 && value <= 1)) return toHex(colour);
  }
}

function luminanceOf([r, g, b]: readonly number[]): number {
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
}

/** OKLCH (hue in degrees) as linear light; beyond 0 to 1 where sRGB has no such colour. */
export function fromOklch(lightness: number, chroma: number, hue: number): [number, number, number] {
  const turn = (hue * Math.PI) / 180;
  const [a, b] = [chroma * Math.cos(turn), chroma * Math.sin(turn)];
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
}

/** Linear light as #rrggbb. */
export function toHex(colour: readonly number[]): string {
  const channel = (value: number) => {
    const encoded = value <= 0.0031308 ? value * 12.92 : 1.055 * value ** (1 / 2.4) - 0.055;
    return Math.round(Math.min(1, Math.max(0, encoded)) * 255)
      .toString(16)
      .padStart(2, '0');
  };
  return `#${colour.map(channel).join('')}`;
}
