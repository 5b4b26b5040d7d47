/** How a run's status is shown: a sign and a word, so that it does not take colours to tell them apart. */

export type Tone = 'accent' | 'good' | 'warn' | 'bad' | 'quiet';

export interface Status {
  readonly word: string;
  /** What it means, for titles. */
  readonly told: string;
  readonly tone: Tone;
  /** The sign, as a path in a square of 16. */
  readonly path: string;
}

const STATUSES: Readonly<Record<string, Status>> = {
  running: {
    word: 'running',
    told: 'It reports, or was heard of lately',
    tone: 'accent',
    path: 'M4.5 3v10l8.5-5z',
  },
  stalled: {
    word: 'stalled',
    told: 'It is heard of, but a counter does not move',
    tone: 'warn',
    path: 'M4 3h3v10H4zM9 3h3v10H9z',
  },
  finished: {
    word: 'finished',
    told: 'It ended, and said so',
    tone: 'good',
    path: 'M6.4 12.6 2 8.2l1.6-1.6 2.8 2.8 6-6L14 5z',
  },
  failed: {
    word: 'failed',
    told: 'It ended with an error',
    tone: 'bad',
    path: 'M4.6 3 8 6.4 11.4 3 13 4.6 9.6 8l3.4 3.4-1.6 1.6L8 9.6 4.6 13 3 11.4 6.4 8 3 4.6z',
  },
  lost: {
    word: 'lost',
    told: 'It said that it runs, but is no longer heard of',
    tone: 'warn',
    path: 'M8 2a4 4 0 0 0-4 4h2a2 2 0 1 1 3 1.7C7.6 8.5 7 9.2 7 10.5h2c0-.6.3-.9 1.1-1.4A4 4 0 0 0 8 2zM7 12h2v2H7z',
  },
};

/** A status as the service tells it; `stalled`: a counter of a running run does not move. */
export function statusOf(status: unknown, stalled = false): Status {
  const shown = status === 'running' && stalled ? 'stalled' : String(status ?? '');
  const known = Object.hasOwn(STATUSES, shown) ? STATUSES[shown] : undefined;
  return known ?? { word: shown || '–', told: '', tone: 'quiet', path: 'M5 7h6v2H5z' };
}
