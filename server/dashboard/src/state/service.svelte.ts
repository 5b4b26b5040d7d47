/** What the page knows of the service itself. */
import type { Client, ServiceAnswer } from '../api/client';
import type { Clock } from './clock.svelte';
import { Loading } from './loading.svelte';

export class Service {
  answer = $state.raw<ServiceAnswer | null>(null);
  /** Whether the service is of another version than this page came from. */
  updated = $state(false);
  /** Whether what changes runs is to be offered: not to who may only look. */
  readonly mayChange = $derived(this.answer?.access.scope !== 'read');
  readonly loading = new Loading();

  constructor(
    private readonly client: Client,
    private readonly clock: Clock,
  ) {}

  /** Ask who it is: each time it is there again. */
  load(): void {
    this.loading.follow(async (signal) => {
      const answer = await this.client.service(signal);
      this.updated ||= this.answer !== null && this.answer.version !== answer.version;
      this.answer = answer;
      this.clock.set(answer.now);
    });
  }
}
