/** What the main area can show, in the order of its tabs; a region without an entry has no tab. */
import type { Component } from 'svelte';
import type { Region } from '../../lib/view';
import ChartsRegion from '../charts/ChartsRegion.svelte';
import HealthRegion from '../health/HealthRegion.svelte';
import SweepRegion from '../sweep/SweepRegion.svelte';

interface Shown {
  label: string;
  component: Component;
}

export const REGION: { charts: Shown } & Partial<Record<Region, Shown>> = {
  charts: { label: 'Charts', component: ChartsRegion },
  sweep: { label: 'Sweep', component: SweepRegion },
  health: { label: 'Health', component: HealthRegion },
};
