/** Which of many lines of equal height are in sight, so that only those are drawn. */

export interface Slice {
  readonly start: number;
  readonly end: number;
}

/** Lines drawn above and below those in sight: scrolling shows them before it has to make others. */
export const MARGIN = 12;

/** The lines to draw of `count`, each `height` high, where `seen` pixels are in sight from `top` on. */
export function sliceOf(count: number, height: number, top: number, seen: number): Slice {
  const last = Math.max(0, Math.min(count, Math.ceil((top + seen) / height) + MARGIN));
  const start = Math.max(0, Math.min(last, Math.floor(top / height) - MARGIN));
  return { start, end: last };
}

/** Where to scroll to, so that a line is in sight; as little as possible. */
export function revealing(line: number, height: number, top: number, seen: number): number {
  if (line * height < top) return line * height;
  return Math.max(top, (line + 1) * height - seen);
}
