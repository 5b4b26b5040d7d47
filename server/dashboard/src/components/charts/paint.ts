/** Curves, bands and marks onto a canvas: lines only, no axes. Pixels are the canvas' own. */
import type { Curve } from '../../lib/curves';
import type { Mark, MarkKind, Outlier } from '../../lib/marks';
import type { Range } from '../../lib/ranges';

const BAND_ALPHA = 0.14;
/** Of the line that smoothing is made from. */
const RAW_ALPHA = 0.28;
const GHOST_ALPHA = 0.55;
const LINE_WIDTH = 1.5;
const LIT_WIDTH = 2.5;
/**
 * With more curves than these they are hairlines, and bands are columns: without a graphics card a line of more than one
 * pixel takes twenty times as long, a polygon three times as long as the rectangles of its samples.
 */
export const MANY = 12;
const DOT_RADIUS = 2.25;
/** Half the size of marks, and how far apart those of one curve are at least. */
const MARK = 3.5;
export const MARKS_APART = 9;

/** Where ranges of x and y are on a canvas, in its pixels; ratio: of them to a CSS pixel. */
export interface Place {
  left: number;
  top: number;
  width: number;
  height: number;
  x: Range;
  y: Range;
  log: boolean;
  ratio: number;
}

/** Values as pixels: along x and y. On a log axis what is not positive is NaN. */
export interface Scale {
  x(value: number): number;
  y(value: number): number;
}

export function scaleOf({ left, top, width, height, x, y, log }: Place): Scale {
  const of = log ? Math.log10 : (value: number) => value;
  const [from, to] = [of(y.from), of(y.to)];
  const [perX, perY] = [width / (x.to - x.from), height / (to - from)];
  return {
    x: (value) => left + (value - x.from) * perX,
    y: (value) => top + (to - of(value)) * perY,
  };
}

/** All curves: bands below lines, what is superseded below what is visible. */
export function paintCurves(ctx: CanvasRenderingContext2D, place: Place, curves: readonly Curve[]): void {
  const scale = scaleOf(place);
  const many = curves.length > MANY;
  const band = many ? paintColumns : paintBand;
  ctx.lineJoin = 'bevel';
  ctx.lineWidth = many ? Math.max(1, (LINE_WIDTH / 2) * place.ratio) : LINE_WIDTH * place.ratio;
  for (const curve of curves) if (!curve.ghost) band(ctx, place, scale, curve);
  for (const curve of curves) {
    ctx.strokeStyle = ctx.fillStyle = curve.colour;
    ctx.setLineDash(curve.ghost ? [4 * place.ratio, 3 * place.ratio] : []);
    ctx.globalAlpha = curve.ghost ? GHOST_ALPHA : curve.smoothed ? RAW_ALPHA : 1;
    strokeLine(ctx, place, scale, curve.x, curve.mean);
    ctx.globalAlpha = 1;
    if (curve.smoothed) strokeLine(ctx, place, scale, curve.x, curve.smoothed);
  }
  ctx.setLineDash([]);
}

/** One curve so that it stands out: with an edge of the background's colour. */
export function paintLit(
  ctx: CanvasRenderingContext2D,
  place: Place,
  curve: Curve,
  background: string,
): void {
  const scale = scaleOf(place);
  ctx.lineJoin = 'bevel';
  paintBand(ctx, place, scale, curve);
  for (const [style, width] of [
    [background, LIT_WIDTH + 3],
    [curve.colour, LIT_WIDTH],
  ] as const) {
    ctx.strokeStyle = ctx.fillStyle = style;
    ctx.lineWidth = width * place.ratio;
    strokeLine(ctx, place, scale, curve.x, curve.smoothed ?? curve.mean);
  }
}

/**
 * × NaN, ▲ +Inf at the top, ▼ −Inf at the bottom, ◇ where only a zoom tells which. Where one follows the other closely,
 * as in a run that diverged, the first has its sign and the others are dots.
 */
export function paintMarks(
  ctx: CanvasRenderingContext2D,
  place: Place,
  marks: readonly Mark[],
  colour: string,
): void {
  const scale = scaleOf(place);
  const size = MARK * place.ratio;
  const [highest, lowest] = [place.top + 2 * size, place.top + place.height - 2 * size];
  const before: Record<string, number> = {};
  const drawn: Record<string, number> = {};
  ctx.strokeStyle = ctx.fillStyle = colour;
  ctx.lineWidth = 1.5 * place.ratio;
  for (const { kind, x, y } of marks) {
    const left = scale.x(x);
    const follows = left - (before[kind] ?? -Infinity) < MARKS_APART * place.ratio;
    before[kind] = left;
    if (follows && left - drawn[kind]! < MARKS_APART * place.ratio) continue;
    drawn[kind] = left;
    const high = scale.y(y);
    const line = Number.isNaN(high) ? lowest : Math.min(lowest, Math.max(highest, high));
    const top = kind === 'up' ? place.top + size : kind === 'down' ? lowest + size : line;
    if (follows) dot(ctx, left, top, place.ratio);
    else sign(ctx, kind, left, top, size);
  }
}

/** Small open arrows at the edge that values lie beyond. */
export function paintOutliers(
  ctx: CanvasRenderingContext2D,
  place: Place,
  outliers: readonly Outlier[],
): void {
  const scale = scaleOf(place);
  const size = 2.5 * place.ratio;
  ctx.lineWidth = 1.25 * place.ratio;
  for (const { x, above, curve } of outliers) {
    ctx.strokeStyle = curve.colour;
    const top = above ? place.top + 1.5 * size : place.top + place.height - 1.5 * size;
    const way = above ? -1 : 1;
    const left = scale.x(x);
    ctx.beginPath();
    ctx.moveTo(left - size, top - (way * size) / 2);
    ctx.lineTo(left, top + (way * size) / 2);
    ctx.lineTo(left + size, top - (way * size) / 2);
    ctx.stroke();
  }
}

export function dot(ctx: CanvasRenderingContext2D, x: number, y: number, radius: number): void {
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.fill();
}

/** A line through the values within sight; NaN is a gap, a value between two gaps a dot. */
function strokeLine(
  ctx: CanvasRenderingContext2D,
  place: Place,
  scale: Scale,
  xs: Float64Array,
  values: Float64Array,
): void {
  const [begin, end] = within(xs, place.x);
  const dots: number[] = [];
  ctx.beginPath();
  let run = 0; // values in a row
  let [left, top] = [0, 0];
  for (let i = begin; i <= end; i++) {
    const high = i < end ? clamped(scale.y(values[i]!), place) : NaN;
    if (Number.isNaN(high)) {
      if (run === 1) dots.push(left, top);
      run = 0;
      continue;
    }
    [left, top] = [scale.x(xs[i]!), high];
    if (run++) ctx.lineTo(left, top);
    else ctx.moveTo(left, top);
  }
  ctx.stroke();
  for (let i = 0; i < dots.length; i += 2) dot(ctx, dots[i]!, dots[i + 1]!, DOT_RADIUS * place.ratio);
}

/** From the least to the greatest value of each sample. */
function paintBand(ctx: CanvasRenderingContext2D, place: Place, scale: Scale, curve: Curve): void {
  const { x, low, high } = curve;
  if (low === high) return; // single points
  const [first, last] = within(x, place.x);
  ctx.fillStyle = curve.colour;
  ctx.globalAlpha = BAND_ALPHA;
  ctx.beginPath();
  for (let begin = first; begin < last;) {
    let end = begin;
    while (end < last && !Number.isNaN(scale.y(high[end]!))) end++;
    if (end > begin) outline(ctx, place, scale, curve, begin, end);
    begin = end + 1;
  }
  ctx.fill();
  ctx.globalAlpha = 1;
}

/** The same, each sample as a column that goes halfway to its neighbours. */
function paintColumns(ctx: CanvasRenderingContext2D, place: Place, scale: Scale, curve: Curve): void {
  const { x, low, high } = curve;
  if (low === high) return;
  const [begin, end] = within(x, place.x);
  const between = (i: number) =>
    Math.round(scale.x((x[Math.max(0, i - 1)]! + x[Math.min(x.length - 1, i)]!) / 2));
  ctx.fillStyle = curve.colour;
  ctx.globalAlpha = BAND_ALPHA;
  for (let i = begin, left = between(begin); i < end; i++) {
    const right = between(i + 1);
    const top = clamped(scale.y(high[i]!), place);
    if (!Number.isNaN(top)) {
      const bottom = clamped(scale.y(low[i]!), place);
      ctx.fillRect(left, top, right - left, (Number.isNaN(bottom) ? place.top + place.height : bottom) - top);
    }
    left = right;
  }
  ctx.globalAlpha = 1;
}

function outline(
  ctx: CanvasRenderingContext2D,
  place: Place,
  scale: Scale,
  { x, low, high }: Curve,
  begin: number,
  end: number,
): void {
  const bottom = place.top + place.height;
  ctx.moveTo(scale.x(x[begin]!), clamped(scale.y(high[begin]!), place));
  for (let i = begin + 1; i < end; i++) ctx.lineTo(scale.x(x[i]!), clamped(scale.y(high[i]!), place));
  for (let i = end - 1; i >= begin; i--) {
    const y = clamped(scale.y(low[i]!), place);
    ctx.lineTo(scale.x(x[i]!), Number.isNaN(y) ? bottom : y); // on a log axis what is not positive lies below all
  }
  ctx.closePath();
}

/** The samples in sight, and one more at either side. */
function within(xs: Float64Array, range: Range): [begin: number, end: number] {
  let [begin, end] = [0, xs.length];
  while (begin + 1 < end && xs[begin + 1]! < range.from) begin++;
  while (end - 1 > begin && xs[end - 2]! > range.to) end--;
  return [begin, end];
}

/** Canvases lose lines to places that are far out. */
function clamped(y: number, { top, height }: Place): number {
  return y < top - height ? top - height : y > top + 2 * height ? top + 2 * height : y;
}

function sign(ctx: CanvasRenderingContext2D, kind: MarkKind, x: number, y: number, size: number): void {
  ctx.beginPath();
  if (kind === 'up') arrow(ctx, x, y, size, -1);
  else if (kind === 'down') arrow(ctx, x, y, size, 1);
  else if (kind === 'nan') cross(ctx, x, y, size);
  else diamond(ctx, x, y, size);
  if (kind === 'up' || kind === 'down') ctx.fill();
  else ctx.stroke();
}

function arrow(ctx: CanvasRenderingContext2D, x: number, y: number, size: number, way: 1 | -1): void {
  ctx.moveTo(x - size, y - way * size);
  ctx.lineTo(x + size, y - way * size);
  ctx.lineTo(x, y + way * size);
  ctx.closePath();
}

function cross(ctx: CanvasRenderingContext2D, x: number, y: number, size: number): void {
  ctx.moveTo(x - size, y - size);
  ctx.lineTo(x + size, y + size);
  ctx.moveTo(x + size, y - size);
  ctx.lineTo(x - size, y + size);
}

function diamond(ctx: CanvasRenderingContext2D, x: number, y: number, size: number): void {
  ctx.moveTo(x, y - size);
  ctx.lineTo(x + size, y);
  ctx.lineTo(x, y + size);
  ctx.lineTo(x - size, y);
  ctx.closePath();
}
