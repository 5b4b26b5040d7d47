/** Sizes of charts in CSS pixels: least width, and heights of the plot and of the card about it. */
import type { Size } from '../../lib/view';

export const GAP = 12;
/** Header, notes, padding and border of a card. */
const ABOUT = 28 + 16 + 4 + 2;

function measure(width: number, plot: number) {
  return { width, plot, card: plot + ABOUT };
}

export const MEASURES: Readonly<Record<Size, ReturnType<typeof measure>>> = {
  small: measure(272, 160),
  medium: measure(360, 216),
  large: measure(640, 344),
};
