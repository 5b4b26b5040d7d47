/** Where keys lead to in the page: to runs, charts and cards (`data-stop`), and to fields to search in. */
import { neighbour } from '../../lib/keys';

const STOPS = '[data-stop], #runs [role="treegrid"], main article';
const SEARCHES = 'input[type="search"]';

/** Whether what has the focus takes text. */
export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLTextAreaElement) return true;
  if (target instanceof HTMLSelectElement) return true;
  return (
    target instanceof HTMLInputElement && !['checkbox', 'radio', 'button', 'range'].includes(target.type)
  );
}

/** Go to the next stop or the one before: among the runs if the focus is there, else in the main area. */
export function step(by: 1 | -1): void {
  const place = zone();
  const stops = seen(place, STOPS).filter((stop, i, all) => !i || !all[i - 1]!.contains(stop));
  const active = document.activeElement;
  const present = stops.findIndex((stop) => stop === active || stop.contains(active));
  const next = neighbour(stops.length, present, by);
  if (next === null) return;
  const stop = stops[next]!;
  if (stop.tabIndex < 0 && !stop.hasAttribute('tabindex')) stop.tabIndex = -1;
  stop.focus();
  stop.scrollIntoView({ block: 'nearest' });
}

/** Go to the field to search in: that of where the focus is, else the first one. */
export function search(): void {
  const field = seen(zone(), SEARCHES)[0] ?? seen(document.body, SEARCHES)[0];
  field?.focus();
  if (field instanceof HTMLInputElement) field.select();
}

function zone(): HTMLElement {
  const runs = document.getElementById('runs');
  const main = document.querySelector('main');
  if (runs?.contains(document.activeElement)) return runs;
  if (main && seen(main, STOPS).length) return main;
  return runs ?? document.body;
}

function seen(place: HTMLElement, selector: string): HTMLElement[] {
  return [...place.querySelectorAll<HTMLElement>(selector)].filter((element) => element.checkVisibility());
}
