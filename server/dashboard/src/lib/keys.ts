/** What keys do, in one place: the page acts by it, and the help shows it. */

export type Action = 'next' | 'previous' | 'search' | 'help' | 'pause' | 'retry' | 'region';

export interface Binding {
  readonly keys: readonly string[];
  readonly action: Action | null;
  readonly told: string;
}

/** Without an action: what is done where the focus is. */
export const BINDINGS: readonly Binding[] = [
  { keys: ['j'], action: 'next', told: 'Next run, chart or card' },
  { keys: ['k'], action: 'previous', told: 'The one before' },
  { keys: ['/'], action: 'search', told: 'Search' },
  { keys: ['1', '2', '3'], action: 'region', told: 'Charts, sweep, health' },
  { keys: ['p'], action: 'pause', told: 'Pause, or go on' },
  { keys: ['r'], action: 'retry', told: 'Try to reach the service now' },
  { keys: ['?'], action: 'help', told: 'This list' },
  { keys: ['Esc'], action: null, told: 'Close what is open' },
  { keys: ['Space'], action: null, told: 'Select the run that has the focus' },
  { keys: ['Enter'], action: null, told: 'Show the run that has the focus' },
  { keys: ['←', '→'], action: null, told: 'Move the axis that has the focus' },
  { keys: ['↑', '↓'], action: null, told: 'Move the end of an axis’s range' },
  { keys: ['Del'], action: null, told: 'Clear an axis’s range' },
];

export interface Pressed {
  readonly key: string;
  readonly ctrlKey: boolean;
  readonly metaKey: boolean;
  readonly altKey: boolean;
}

/** What a key does; null: nothing, or it is meant for a field that is typed in. */
export function actionOf(pressed: Pressed, typing: boolean): Action | null {
  if (typing || pressed.ctrlKey || pressed.metaKey || pressed.altKey) return null;
  return BINDINGS.find(({ keys, action }) => action !== null && keys.includes(pressed.key))?.action ?? null;
}

/** The place after (or before) the present one; from nowhere the first; it ends at the ends. null: there is none. */
export function neighbour(count: number, present: number, by: 1 | -1): number | null {
  if (!count) return null;
  if (present < 0) return 0;
  return Math.min(count - 1, Math.max(0, present + by));
}
