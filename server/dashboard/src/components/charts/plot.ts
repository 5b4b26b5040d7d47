/**
 * Curves on uPlot: it has axes, scales, cursor and selection; the curves are drawn by us, each with x of its own.
 *
 * Not a component: `draw` is called with all that is to be seen, as often as it changes.
 */
import uPlot from 'uplot';
import { shortText, valueText } from '../../lib/numbers';
import { valueRange, xRange } from '../../lib/ranges';
import { lineKey, type Line, type Lines } from '../../lib/series';
import { seedAt, smooth, tauOf } from '../../lib/smooth';
import type { Zoom } from '../../lib/view';

export interface Drawing {
  lines: { line: Line; colour: string }[];
  /** The same lines over all of x: what smoothing goes by. */
  whole: Lines;
  x: string;
  log: boolean;
  smoothing: number;
  outliers: boolean;
  zoom: Zoom | null;
  width: number;
}

const HEIGHT = 220;
const BAND_ALPHA = 0.14;
const RAW_ALPHA = 0.3;
const LINE_WIDTH = 1.5;
/** The least part of the plot's width, in pixels, that a drag has to cover to zoom. */
const DRAG_MIN = 6;
const DARK = '(prefers-color-scheme: dark)';

interface Curve {
  line: Line;
  colour: string;
  smoothed: Float64Array | null;
}

export class Plot {
  private plot: uPlot | null = null;
  private kind = '';
  private curves: Curve[] = [];
  private range = { x: { from: 0, to: 1 }, y: { from: 0, to: 1 } };
  private readonly dark = matchMedia(DARK);
  private last: Drawing | null = null;
  private readonly redraw = () => {
    this.kind = ''; // axes take their colours when they are made
    if (this.last) this.draw(this.last);
  };

  /** zoomed: a range of x was chosen, or (null) all of it. */
  constructor(
    private readonly element: HTMLElement,
    private readonly zoomed: (zoom: Zoom | null) => void,
  ) {
    this.dark.addEventListener('change', this.redraw);
  }

  draw(drawing: Drawing): void {
    this.last = drawing;
    this.curves = drawing.lines.map(({ line, colour }) => ({
      line,
      colour,
      smoothed: smoothed(line, drawing),
    }));
    const columns = this.curves.flatMap(({ line }) => [line.min, line.max]);
    this.range.y = valueRange(columns, { robust: !drawing.outliers, log: drawing.log }) ?? {
      from: 0.1,
      to: 1,
    };
    const ends = this.curves.filter(({ line }) => line.length).map(({ line }) => endsOf(line));
    const { zoom } = drawing;
    this.range.x = zoom ? { from: zoom[0], to: zoom[1] } : (xRange(ends) ?? { from: 0, to: 1 });
    const kind = JSON.stringify([drawing.x, drawing.log]);
    if (kind !== this.kind) this.make(drawing);
    this.kind = kind;
    this.plot?.setSize({ width: drawing.width, height: HEIGHT });
    const { from, to } = this.range.x;
    this.plot?.setData([[from, to], [null, null]]); // prettier-ignore
  }

  destroy(): void {
    this.dark.removeEventListener('change', this.redraw);
    this.plot?.destroy();
  }

  private make({ x, log, width }: Drawing): void {
    this.plot?.destroy();
    const style = getComputedStyle(this.element);
    const [stroke, grid] = [style.getPropertyValue('--quiet'), style.getPropertyValue('--grid')];
    const axis = {
      stroke,
      grid: { stroke: grid, width: 1 },
      ticks: { show: false },
      font: `11px ${style.fontFamily}`,
    };
    const time = x === 'wall_time';
    const options: uPlot.Options = {
      width,
      height: HEIGHT,
      legend: { show: false },
      padding: [8, 8, 0, 0],
      scales: {
        x: { time, range: () => [this.range.x.from, this.range.x.to] },
        y: { distr: log ? 3 : 1, range: () => [this.range.y.from, this.range.y.to] },
      },
      axes: [
        time
          ? { ...axis, size: 40 }
          : { ...axis, size: 28, values: (_, ticks) => ticks.map((tick) => shortText(tick)) },
        {
          ...axis,
          size: 56,
          values: (_, ticks) => ticks.map((tick) => (tick === null ? null : valueText(tick, 3))),
        },
      ],
      series: [{}, { paths: () => null, points: { show: false } }],
      cursor: { drag: { x: true, y: false, setScale: false, dist: DRAG_MIN }, points: { show: false } },
      hooks: {
        draw: [(plot) => this.paint(plot)],
        setSelect: [(plot) => this.chosen(plot)],
        ready: [(plot) => plot.over.addEventListener('dblclick', () => this.zoomed(null))],
      },
    };
    this.plot = new uPlot(options, [[0, 1], [null, null]], this.element); // prettier-ignore
  }

  private chosen(plot: uPlot): void {
    const { left, width } = plot.select;
    if (width < DRAG_MIN) return;
    const zoom: Zoom = [plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x')];
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    if (zoom[0] < zoom[1]) this.zoomed(zoom);
  }

  private paint(plot: uPlot): void {
    const { ctx, bbox } = plot;
    const x = (value: number) => plot.valToPos(value, 'x', true);
    const y = (value: number) => plot.valToPos(value, 'y', true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.lineJoin = 'round';
    ctx.lineWidth = LINE_WIDTH * devicePixelRatio;
    for (const { line, colour } of this.curves) {
      ctx.fillStyle = colour;
      ctx.globalAlpha = BAND_ALPHA;
      ctx.fill(bandOf(line, x, y));
    }
    for (const { line, colour, smoothed } of this.curves) {
      ctx.strokeStyle = colour;
      ctx.globalAlpha = smoothed ? RAW_ALPHA : 1;
      ctx.stroke(pathOf(line.x, line.mean, x, y));
      ctx.globalAlpha = 1;
      if (smoothed) ctx.stroke(pathOf(line.x, smoothed, x, y));
    }
    ctx.restore();
  }
}

type Position = (value: number) => number;

function endsOf(line: Line): [number, number] {
  return [line.x0[0]!, line.x1[line.length - 1]!];
}

function smoothed(line: Line, { smoothing, whole }: Drawing): Float64Array | null {
  if (!smoothing || !line.length) return null;
  const all = whole.get(lineKey(line.run, line.tag, line.attempt)) ?? line;
  const [first, last] = all.length ? endsOf(all) : endsOf(line);
  const tau = tauOf(smoothing, last - first);
  return smooth(line, tau, all === line ? undefined : seedAt(all, tau, line.x0[0]!));
}

/** A line through the values; NaN is a gap, a value between two gaps a dot. */
function pathOf(xs: Float64Array, values: Float64Array, x: Position, y: Position): Path2D {
  const path = new Path2D();
  for (let i = 0, drawing = false; i < xs.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value)) {
      drawing = false;
      continue;
    }
    const [left, top] = [x(xs[i]!), y(value)];
    if (drawing) path.lineTo(left, top);
    else path.moveTo(left, top);
    if (!drawing && !Number.isFinite(values[i + 1] ?? NaN)) path.arc(left, top, 1, 0, 2 * Math.PI);
    drawing = true;
  }
  return path;
}

/** From the least to the greatest value of each bucket. */
function bandOf(line: Line, x: Position, y: Position): Path2D {
  const path = new Path2D();
  for (let begin = 0; begin < line.length;) {
    if (!Number.isFinite(line.min[begin]!)) {
      begin++;
      continue;
    }
    let end = begin;
    while (end < line.length && Number.isFinite(line.min[end]!)) end++;
    path.moveTo(x(line.x[begin]!), y(line.max[begin]!));
    for (let i = begin + 1; i < end; i++) path.lineTo(x(line.x[i]!), y(line.max[i]!));
    for (let i = end - 1; i >= begin; i--) path.lineTo(x(line.x[i]!), y(line.min[i]!));
    path.closePath();
    begin = end;
  }
  return path;
}
