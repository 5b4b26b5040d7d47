/** Whether the service is there, and what it tells of runs that change. */
import type { Client } from '../api/client';
import { browser, Live, type LiveStatus, type News } from '../api/live';

export class Connection {
  status = $state<LiveStatus>('connecting');
  /** When the status became what it is (ms since the epoch). */
  since = $state(Date.now());
  /** When the next try to reach the service comes (ms since the epoch); null: it is under way, or none is needed. */
  nextTry = $state<number | null>(null);
  /** While paused: so many runs changed that are not shown yet; null: anything may have. */
  waiting = $state<number | null>(0);
  /** Whether somebody wants it to stand still; while the service is away, too. */
  paused = $state(false);
  private readonly live: Live;
  private readonly listeners = new Set<(news: News) => void>();

  constructor(client: Client) {
    this.live = new Live(
      browser(client.base, () => client.isThere(5_000)),
      {
        status: (status) => {
          if (status === this.status || (status === 'connecting' && this.status === 'away')) return;
          this.status = status;
          this.since = Date.now();
        },
        waiting: (runs) => (this.waiting = runs),
        next: (ms) => {
          this.nextTry = ms === null ? null : Date.now() + ms;
          // An event source does not say why it failed: if the login is over, this finds out, and the page asks for it.
          if (ms !== null) client.service().catch(() => {});
        },
        news: (news) => this.listeners.forEach((listener) => listener(news)),
      },
    );
  }

  /** Connect, and stay connected until the returned function is called. */
  start(): () => void {
    const seen = () => this.live.visible(document.visibilityState === 'visible');
    const online = () => this.live.retry();
    document.addEventListener('visibilitychange', seen);
    window.addEventListener('online', online);
    this.live.start();
    return () => {
      document.removeEventListener('visibilitychange', seen);
      window.removeEventListener('online', online);
      this.live.stop();
    };
  }

  /** Hear which runs changed (null: anything may have); returns what ends it. */
  onNews(listener: (news: News) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Stand still, or go on; what changed meanwhile comes then. */
  togglePause(): void {
    this.paused = !this.paused;
    if (this.paused) this.live.pause();
    else this.live.resume();
  }

  retry(): void {
    this.live.retry();
  }
}
