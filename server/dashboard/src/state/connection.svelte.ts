/** Whether the service is there, and what it tells of runs that change. */
import type { Client } from '../api/client';
import { browser, Live, type LiveStatus, type News } from '../api/live';

export class Connection {
  status = $state<LiveStatus>('connecting');
  /** When the status became what it is (ms since the epoch). */
  since = $state(Date.now());
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
    if (this.status === 'paused') this.live.resume();
    else this.live.pause();
  }

  retry(): void {
    this.live.retry();
  }
}
