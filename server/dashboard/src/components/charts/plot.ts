/**
 * Curves on uPlot: it has axes and scales; curves are painted by us, each with x of its own, and so is the cursor, on a
 * canvas above, because it moves without the curves being painted again.
 *
 * Not a component: `draw` is called with all that is to be seen, as often as it changes, and `point` with the cursor.
 */
import uPlot from 'uplot';
import type { Curve } from '../../lib/curves';
import type { Mark, Outlier } from '../../lib/marks';
import type { Range } from '../../lib/ranges';
import type { Reading } from '../../lib/readings';
import { distances, SECONDS, secondTicks, stepTicks, valueTicks } from '../../lib/ticks';
import { dot, MANY, paintCurves, paintLit, paintMarks, paintOutliers, scaleOf, type Place } from './paint';

export interface Drawing {
  curves: readonly Curve[];
  /** Of each curve that has any. */
  marks: readonly { marks: readonly Mark[]; colour: string }[];
  outliers: readonly Outlier[];
  /** step, relative, wall_time or a counter. */
  along: string;
  x: Range;
  y: Range;
  log: boolean;
  width: number;
  height: number;
}

/** The cursor as it is drawn: where, what it reads, and which curve stands out. */
export interface Pointing {
  x: number;
  readings: readonly Reading[];
  lit: Curve | null;
}

const DARK = '(prefers-color-scheme: dark)';
const AXIS_WIDTH = 56;
const NOTHING = { dots: [], lit: null, drawing: null };

export class Plot {
  private plot: uPlot | null = null;
  private kind = '';
  private drawing: Drawing | null = null;
  private pointing: Pointing | null = null;
  private inner = { left: 0, top: 0, width: 0, height: 0 };
  /** The colour of what lies behind the curves. */
  private ground = '';
  private readonly above = document.createElement('canvas');
  private readonly needle = document.createElement('div');
  private painted: { dots: readonly Reading[]; lit: Curve | null; drawing: Drawing | null } = NOTHING;
  private readonly dark = matchMedia(DARK);
  private readonly repaint = () => {
    this.kind = ''; // axes take their colours when they are made
    if (this.drawing) this.draw(this.drawing);
  };

  /** made: called with the area of the curves whenever uPlot makes one; drawn: whenever curves are. */
  constructor(
    private readonly element: HTMLElement,
    private readonly made: (area: HTMLElement) => void,
    private readonly drawn: () => void,
  ) {
    this.needle.className = 'needle';
    this.needle.hidden = true;
    this.dark.addEventListener('change', this.repaint);
  }

  draw(drawing: Drawing): void {
    this.drawing = drawing;
    const { along, log, width, height, x } = drawing;
    const kind = JSON.stringify([along, log]);
    if (kind !== this.kind || !this.plot) this.make(drawing);
    this.kind = kind;
    const plot = this.plot!;
    if (plot.width !== width || plot.height !== height) plot.setSize({ width, height });
    plot.setData([[x.from, x.to], [null, null]]); // prettier-ignore
  }

  /** Show the cursor; null: there is none here. */
  point(pointing: Pointing | null): void {
    this.pointing = pointing;
    const place = this.place();
    if (!place) return;
    const { x, readings, lit } = pointing ?? { x: NaN, readings: [], lit: null };
    const seen = x >= place.x.from && x <= place.x.to;
    this.needle.hidden = !seen;
    if (seen) this.needle.style.transform = `translateX(${scaleOf(place).x(x) / place.ratio}px)`;
    this.paintAbove(place, readings.length > MANY ? [] : readings, lit);
  }

  /** Dots, and the curve that stands out; with neither changed, nothing is painted. */
  private paintAbove(place: Place, dots: readonly Reading[], lit: Curve | null): void {
    const now = { dots, lit, drawing: this.drawing };
    const { dots: were, lit: was, drawing } = this.painted;
    if (!dots.length && !were.length && lit === was && (!lit || drawing === this.drawing)) return;
    this.painted = now;
    const ctx = this.above.getContext('2d');
    if (!ctx) return;
    const [width, height] = [Math.round(place.width), Math.round(place.height)];
    if (this.above.width !== width) this.above.width = width;
    if (this.above.height !== height) this.above.height = height;
    ctx.clearRect(0, 0, width, height);
    if (lit) paintLit(ctx, place, lit, this.ground);
    const scale = scaleOf(place);
    for (const { curve, x, y } of dots) {
      ctx.fillStyle = curve.colour;
      if (Number.isFinite(y)) dot(ctx, scale.x(x), scale.y(y), (curve === lit ? 4 : 2.5) * place.ratio);
    }
  }

  /** The range of a selected stretch, of pixels of the area along x or y; selecting it is drawn until null. */
  select(stretch: { axis: 'x' | 'y'; from: number; to: number } | null): void {
    const { width, height } = this.inner;
    const none = { left: 0, top: 0, width: 0, height: 0 };
    if (!stretch) this.plot?.setSelect(none, false);
    else if (stretch.axis === 'x')
      this.plot?.setSelect({ left: stretch.from, width: stretch.to - stretch.from, top: 0, height }, false);
    else
      this.plot?.setSelect({ left: 0, width, top: stretch.from, height: stretch.to - stretch.from }, false);
  }

  /** What a place in the area, in CSS pixels, stands for. */
  value(axis: 'x' | 'y', place: number): number {
    return this.plot?.posToVal(place, axis) ?? NaN;
  }

  /** Where a value is in the area, in CSS pixels. */
  position(axis: 'x' | 'y', value: number): number {
    return this.plot?.valToPos(value, axis) ?? NaN;
  }

  /** Where the curves are, in CSS pixels of the element. */
  get area(): { left: number; top: number; width: number; height: number } {
    return this.inner;
  }

  /** Curves and axes as they are drawn, without the cursor. */
  get canvas(): HTMLCanvasElement | null {
    return this.plot?.ctx.canvas ?? null;
  }

  destroy(): void {
    this.dark.removeEventListener('change', this.repaint);
    this.plot?.destroy();
    this.plot = null;
  }

  private make({ along, log, width, height }: Drawing): void {
    this.plot?.destroy();
    const style = getComputedStyle(this.element);
    this.ground = style.getPropertyValue('--raised');
    const axis: uPlot.Axis = {
      stroke: style.getPropertyValue('--quiet'),
      grid: { stroke: style.getPropertyValue('--grid'), width: 1 },
      ticks: { show: false },
      font: `11px ${style.fontFamily}`,
    };
    const options: uPlot.Options = {
      width,
      height,
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 12, 0, 0],
      scales: {
        x: { time: along === 'wall_time', range: () => ends(this.drawing!.x) },
        y: { distr: log ? 3 : 1, range: () => ends(this.drawing!.y) },
      },
      axes: [
        { ...axis, ...xAxis(along) },
        {
          ...axis,
          size: AXIS_WIDTH,
          ...(log
            ? {}
            : { incrs: (_plot: uPlot, _axis: number, from: number, to: number) => distances(from, to) }),
          values: (_, ticks, __, ___, apart) => valueTicks(ticks, log ? 0 : apart),
        },
      ],
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: { draw: [(plot) => this.paint(plot)] },
    };
    this.plot = new uPlot(options, [[0, 1], [null, null]], this.element); // prettier-ignore
    this.plot.over.append(this.above, this.needle);
    this.painted = NOTHING;
    this.made(this.plot.over);
  }

  private paint({ ctx, bbox: { left, top, width, height } }: uPlot): void {
    if (!this.drawing) return;
    const ratio = devicePixelRatio;
    this.inner = { left: left / ratio, top: top / ratio, width: width / ratio, height: height / ratio };
    this.drawn();
    const { curves, marks, outliers, x, y, log } = this.drawing;
    const place: Place = { left, top, width, height, x, y, log, ratio };
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    paintCurves(ctx, place, curves);
    paintOutliers(ctx, place, outliers);
    for (const of of marks) paintMarks(ctx, place, of.marks, of.colour);
    ctx.restore();
    this.point(this.pointing);
  }

  /** The canvas above, which is as large as the area. */
  private place(): Place | null {
    if (!this.drawing || !this.plot) return null;
    const { x, y, log } = this.drawing;
    const { width, height } = this.inner;
    const ratio = devicePixelRatio;
    return { left: 0, top: 0, width: width * ratio, height: height * ratio, x, y, log, ratio };
  }
}

function ends({ from, to }: Range): [number, number] {
  return [from, to];
}

function xAxis(along: string): uPlot.Axis {
  if (along === 'wall_time') return { size: 40 };
  if (along === 'relative')
    return { size: 24, gap: 4, incrs: [...SECONDS], values: (_, ticks) => secondTicks(ticks) };
  return { size: 24, gap: 4, values: (_, ticks) => stepTicks(ticks) };
}
