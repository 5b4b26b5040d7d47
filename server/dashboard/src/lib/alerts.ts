/** Alerts of many runs as one list. */
import type { AlertsPage } from '../api/client';

export interface RunAlert {
  readonly run: string;
  /** The same for the same alert, as far as can be told. */
  readonly key: string;
  readonly alert: AlertsPage['alerts'][number];
}

/** Levels in words. */
export const LEVELS = { error: 'Error', warn: 'Warning', info: 'Info' } as const;

/** A run's alerts, each with its key: alerts that are alike in all count as often as they are there. */
export function alertsOf({ run, alerts }: AlertsPage): RunAlert[] {
  const times = new Map<string, number>();
  const found: RunAlert[] = [];
  for (const alert of alerts.toReversed()) {
    const text = JSON.stringify([run, alert.received_at, alert.producer, alert.title, alert.text]);
    const before = times.get(text) ?? 0;
    times.set(text, before + 1);
    found.push({ run, key: `${text}${before}`, alert });
  }
  return found.reverse();
}

/** The newest of all, newest first; those of `pages` take the place of what was known of their runs. */
export function newest(known: readonly RunAlert[], pages: readonly AlertsPage[], most: number): RunAlert[] {
  const replaced = new Set(pages.map(({ run }) => run));
  const all = [...known.filter(({ run }) => !replaced.has(run)), ...pages.flatMap(alertsOf)];
  return all.sort((one, other) => other.alert.received_at - one.alert.received_at).slice(0, most);
}
