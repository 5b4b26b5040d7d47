/** What the pointer does on a chart: drag to zoom, click to pin, double click to see all; the wheel scrolls the page. */

/** The least way, in CSS pixels, that makes a drag of a press. */
const DRAG_MIN = 6;
/** After a click, how long a second one is waited for: what a click shows must not come under a double click. */
const DOUBLE_MS = 250;

export interface Stretch {
  axis: 'x' | 'y';
  from: number;
  to: number;
}

export interface Gestures {
  /** The pointer is here, in CSS pixels of the area; null: it left. */
  moved(at: { x: number; y: number } | null): void;
  /** A stretch is being chosen; null: no more. */
  choosing(stretch: Stretch | null): void;
  chosen(stretch: Stretch): void;
  clicked(): void;
  reset(): void;
}

/** Listen to the pointer over an area, which ends with the area itself. With Shift or Alt a drag is along y. */
export function listen(area: HTMLElement, gestures: Gestures): void {
  let begun: { x: number; y: number; axis: 'x' | 'y' } | null = null;
  let stretch: Stretch | null = null;
  let click: ReturnType<typeof setTimeout> | undefined;

  const placeOf = (event: PointerEvent) => {
    const box = area.getBoundingClientRect();
    const within = (value: number, most: number) => Math.min(most, Math.max(0, value));
    return { x: within(event.clientX - box.left, box.width), y: within(event.clientY - box.top, box.height) };
  };
  const end = () => {
    begun = stretch = null;
    gestures.choosing(null);
  };

  area.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    clearTimeout(click);
    begun = { ...placeOf(event), axis: event.shiftKey || event.altKey ? 'y' : 'x' };
    area.setPointerCapture(event.pointerId);
  });
  area.addEventListener('pointermove', (event) => {
    const at = placeOf(event);
    if (begun) {
      const [one, other] = [begun[begun.axis], at[begun.axis]];
      stretch =
        Math.abs(other - one) < DRAG_MIN
          ? null
          : { axis: begun.axis, from: Math.min(one, other), to: Math.max(one, other) };
      gestures.choosing(stretch);
    }
    gestures.moved(at);
  });
  area.addEventListener('pointerup', (event) => {
    if (!begun) return;
    const found = stretch;
    end();
    if (found) gestures.chosen(found);
    else {
      const at = placeOf(event);
      gestures.moved(at);
      click = setTimeout(() => {
        gestures.moved(at); // the pointer may be elsewhere by now
        gestures.clicked();
        if (!area.matches(':hover')) gestures.moved(null);
      }, DOUBLE_MS);
    }
  });
  area.addEventListener('pointercancel', end);
  area.addEventListener('pointerleave', () => !begun && gestures.moved(null));
  area.addEventListener('dblclick', () => {
    clearTimeout(click);
    gestures.reset();
  });
}
