/** Draws sweeps on a canvas, from the geometry of lib/parallel and lib/scatter. */
import type { Axis } from '../../lib/sweepaxis';
import { MISSING_GAP, NAN_GAP, type Box, type Layout } from '../../lib/parallel';
import type { Points } from '../../lib/scatter';

export interface Theme {
  readonly text: string;
  readonly quiet: string;
  readonly line: string;
  readonly grid: string;
  readonly accent: string;
  readonly background: string;
  readonly font: string;
}

/** How rows are drawn: colour by row (null: it has no value), and which are selected or filtered out. */
export interface Look {
  readonly colours: readonly (string | null)[];
  readonly inside: readonly boolean[];
  readonly selected: readonly boolean[];
}

const PAINTED = 'sweep painted';
export const POINT_RADIUS = 4;
const LINE_WIDTH = 1.25;
const SELECTED_WIDTH = 2.5;
const ALPHA = 0.75;
const OUTSIDE_ALPHA = 0.5;
const TICK_PX_MIN = 14;

/** Colours and font as the page has them now. */
export function themeOf(element: Element): Theme {
  const style = getComputedStyle(element);
  const of = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    text: of('text'),
    quiet: of('quiet'),
    line: of('line'),
    grid: of('grid'),
    accent: of('accent'),
    background: of('background'),
    font: `11px ${style.fontFamily}`,
  };
}

/** A canvas cleared and scaled to the screen's pixels, in CSS pixels from there on. */
export function prepared(
  canvas: HTMLCanvasElement,
  width: number,
  height: number,
): CanvasRenderingContext2D | null {
  const scale = devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== wide) canvas.width = wide;
  if (canvas.height !== high) canvas.height = high;
  const context = canvas.getContext('2d');
  context?.setTransform(scale, 0, 0, scale, 0, 0);
  context?.clearRect(0, 0, width, height);
  return context;
}

/** Note how long the last drawing took, where the browser's tools (and tests) find it. */
export function measured(begin: number): void {
  performance.clearMeasures(PAINTED);
  performance.measure(PAINTED, { start: begin });
}

/** All lines, first those that are filtered out, last those that are selected; then the axes over them. */
export function paintLines(
  context: CanvasRenderingContext2D,
  layout: Layout,
  look: Look,
  theme: Theme,
): void {
  context.lineJoin = 'round';
  const order = drawingOrder(look);
  for (const row of order) {
    const inside = look.inside[row]!;
    context.globalAlpha = inside ? ALPHA : OUTSIDE_ALPHA;
    context.strokeStyle = inside ? (look.colours[row] ?? theme.quiet) : theme.line;
    context.lineWidth = inside && look.selected[row] ? SELECTED_WIDTH : LINE_WIDTH;
    context.stroke(lineOf(layout, row));
  }
  context.globalAlpha = 1;
  layout.axes.forEach((axis, i) => paintAxis(context, axis, layout.x[i]!, layout.box, theme));
}

/** One line above all others. */
export function paintHeldLine(
  context: CanvasRenderingContext2D,
  layout: Layout,
  row: number,
  theme: Theme,
): void {
  const path = lineOf(layout, row);
  context.lineJoin = 'round';
  context.strokeStyle = theme.background;
  context.lineWidth = 6;
  context.stroke(path);
  context.strokeStyle = theme.accent;
  context.lineWidth = 3;
  context.stroke(path);
}

/** All points with axes and grid; those that are selected have a ring. */
export function paintPoints(
  context: CanvasRenderingContext2D,
  points: Points,
  axes: readonly [across: Axis, up: Axis],
  box: Box,
  look: Look,
  theme: Theme,
): void {
  paintFrame(context, axes, box, theme);
  for (const row of drawingOrder(look)) {
    context.beginPath();
    context.arc(points.x[row]!, points.y[row]!, POINT_RADIUS, 0, 2 * Math.PI);
    context.globalAlpha = ALPHA;
    context.fillStyle = look.colours[row] ?? theme.quiet;
    context.fill();
    if (!look.selected[row]) continue;
    context.globalAlpha = 1;
    context.strokeStyle = theme.text;
    context.lineWidth = 1.5;
    context.stroke();
  }
  context.globalAlpha = 1;
}

/** One point above all others. */
export function paintHeldPoint(
  context: CanvasRenderingContext2D,
  points: Points,
  row: number,
  theme: Theme,
): void {
  context.beginPath();
  context.arc(points.x[row]!, points.y[row]!, POINT_RADIUS + 3, 0, 2 * Math.PI);
  context.strokeStyle = theme.accent;
  context.lineWidth = 2;
  context.stroke();
}

function drawingOrder(look: Look): number[] {
  const rank = (row: number) => (look.inside[row] ? 1 + Number(look.selected[row]) : 0);
  return look.inside.map((_, row) => row).sort((one, other) => rank(one) - rank(other));
}

function lineOf({ x, y }: Layout, row: number): Path2D {
  const path = new Path2D();
  x.forEach((left, a) => (a ? path.lineTo(left, y[a]![row]!) : path.moveTo(left, y[a]![row]!)));
  if (x.length === 1) path.arc(x[0]!, y[0]![row]!, 2, 0, 2 * Math.PI);
  return path;
}

function paintAxis(context: CanvasRenderingContext2D, axis: Axis, x: number, box: Box, theme: Theme): void {
  const bottom = box.top + box.height;
  context.strokeStyle = theme.quiet;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(x, box.top);
  context.lineTo(x, bottom);
  context.stroke();
  context.font = theme.font;
  context.textAlign = 'right';
  context.textBaseline = 'middle';
  let last = Infinity;
  for (const { at, text } of axis.ticks) {
    const y = bottom - at * box.height;
    if (last - y < TICK_PX_MIN) continue;
    last = y;
    label(context, short(text), x - 6, y, theme);
  }
  const [nan, missing] = [bottom + NAN_GAP, bottom + MISSING_GAP];
  for (const y of [nan, missing]) {
    context.beginPath();
    context.moveTo(x - 4, y);
    context.lineTo(x + 4, y);
    context.stroke();
  }
  label(context, 'NaN', x - 8, nan, theme);
  label(context, 'none', x - 8, missing, theme);
}

/** Text that can be read on lines. */
function label(context: CanvasRenderingContext2D, text: string, x: number, y: number, theme: Theme): void {
  context.strokeStyle = theme.background;
  context.lineWidth = 4;
  context.strokeText(text, x, y);
  context.fillStyle = theme.text;
  context.fillText(text, x, y);
  context.strokeStyle = theme.quiet;
  context.lineWidth = 1;
}

function paintFrame(
  context: CanvasRenderingContext2D,
  [across, up]: readonly [Axis, Axis],
  box: Box,
  theme: Theme,
): void {
  const bottom = box.top + box.height;
  context.font = theme.font;
  context.lineWidth = 1;
  context.strokeStyle = theme.grid;
  context.fillStyle = theme.quiet;
  context.textAlign = 'center';
  context.textBaseline = 'top';
  let end = -Infinity;
  for (const { at, text } of across.ticks) {
    const x = box.left + at * box.width;
    stroke(context, x, box.top, x, bottom);
    const half = context.measureText(short(text)).width / 2;
    if (x - half < end + 8) continue;
    end = x + half;
    context.fillText(short(text), x, bottom + MISSING_GAP + 12);
  }
  context.textAlign = 'right';
  context.textBaseline = 'middle';
  let last = Infinity;
  for (const { at, text } of up.ticks) {
    const y = bottom - at * box.height;
    stroke(context, box.left, y, box.left + box.width, y);
    if (last - y < TICK_PX_MIN) continue;
    last = y;
    context.fillText(short(text), box.left - MISSING_GAP - 10, y);
  }
  for (const gap of [NAN_GAP, MISSING_GAP]) {
    context.fillText(gap === NAN_GAP ? 'NaN' : 'none', box.left - MISSING_GAP - 10, bottom + gap);
  }
  context.strokeStyle = theme.line;
  stroke(context, box.left, box.top, box.left, bottom + MISSING_GAP + 8);
  stroke(context, box.left - MISSING_GAP - 8, bottom, box.left + box.width, bottom);
}

function stroke(context: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number): void {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function short(text: string): string {
  return text.length > 14 ? `${text.slice(0, 13)}…` : text;
}
