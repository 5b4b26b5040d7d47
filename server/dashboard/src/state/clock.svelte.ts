/** The service's time, ticking, so that ages are told alike whatever this machine's clock says. */

const TICK_MS = 1_000;

export class Clock {
  /** Seconds since the epoch, by the service's clock. */
  now = $state(Date.now() / 1000);
  private aheadS = 0;

  /** Take over what the service's clock said just now. */
  set(now: number): void {
    this.aheadS = now - Date.now() / 1000;
    this.now = now;
  }

  /** Tick until the returned function is called. */
  start(): () => void {
    const timer = setInterval(() => (this.now = Date.now() / 1000 + this.aheadS), TICK_MS);
    return () => clearInterval(timer);
  }
}
