/** A chart as a file: a picture with its title, axes and legend, or a table of text. */

export interface Entry {
  name: string;
  colour: string;
}

const MARGIN = 16;
const TITLE = 28;
const ENTRY = 18;
const ENTRY_WIDTH = 280;
/** Curves that the legend names; beyond, it says how many more there are. */
const ENTRIES_MAX = 60;

/** A PNG of a chart's canvas on a solid background, with what a reader elsewhere has to know. */
export function picture(
  canvas: HTMLCanvasElement,
  { title, along, entries }: { title: string; along: string; entries: readonly Entry[] },
): Promise<Blob> {
  const style = getComputedStyle(document.documentElement);
  const ratio = devicePixelRatio;
  const [plotWidth, plotHeight] = [canvas.width / ratio, canvas.height / ratio];
  const columns = Math.max(1, Math.floor(plotWidth / ENTRY_WIDTH));
  const named = entries.slice(0, ENTRIES_MAX);
  const lines = Math.ceil((named.length + Number(named.length < entries.length)) / columns);
  const width = plotWidth + 2 * MARGIN;
  const height = plotHeight + TITLE + ENTRY + lines * ENTRY + 3 * MARGIN;
  const out = document.createElement('canvas');
  [out.width, out.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const ctx = out.getContext('2d')!;
  ctx.scale(ratio, ratio);
  ctx.fillStyle = style.getPropertyValue('--background');
  ctx.fillRect(0, 0, width, height);
  ctx.textBaseline = 'middle';
  const family = getComputedStyle(document.body).fontFamily;
  const text = (said: string, x: number, y: number, colour: string, font: string, most: number) => {
    ctx.fillStyle = style.getPropertyValue(colour);
    ctx.font = `${font} ${family}`;
    ctx.fillText(fitting(ctx, said, most), x, y);
  };
  text(title, MARGIN, MARGIN + TITLE / 2, '--text', '600 15px', plotWidth);
  ctx.drawImage(canvas, MARGIN, MARGIN + TITLE, plotWidth, plotHeight);
  const below = MARGIN + TITLE + plotHeight;
  ctx.textAlign = 'right';
  text(along, MARGIN + plotWidth - 12, below + ENTRY / 2, '--quiet', '11px', plotWidth);
  ctx.textAlign = 'left';
  const place = (i: number) => ({
    x: MARGIN + (i % columns) * (plotWidth / columns),
    y: below + ENTRY + MARGIN / 2 + (Math.floor(i / columns) + 0.5) * ENTRY,
  });
  named.forEach(({ name, colour }, i) => {
    const { x, y } = place(i);
    ctx.fillStyle = colour;
    ctx.fillRect(x, y - 5, 10, 10);
    text(name, x + 16, y, '--text', '12px', plotWidth / columns - 24);
  });
  if (named.length < entries.length) {
    const { x, y } = place(named.length);
    text(`and ${entries.length - named.length} more`, x, y, '--quiet', '12px', plotWidth / columns);
  }
  return new Promise((done, failed) =>
    out.toBlob(
      (blob) => (blob ? done(blob) : failed(new Error('This chart is too large for a picture.'))),
      'image/png',
    ),
  );
}

/** Have the browser save a file. */
export function save(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** The name of a tag as that of a file: what file systems dislike becomes a dash. */
export function fileName(tag: string, ending: string): string {
  return `${tag.replace(/[^\p{L}\p{N}._-]+/gu, '-').slice(0, 100)}.${ending}`;
}

function fitting(ctx: CanvasRenderingContext2D, text: string, most: number): string {
  if (ctx.measureText(text).width <= most) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (ctx.measureText(`${text.slice(0, middle)}…`).width <= most) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}
