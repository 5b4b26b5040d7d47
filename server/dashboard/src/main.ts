/** Starts the page. */
import 'uplot/dist/uPlot.min.css';
import './styles.css';
import { mount } from 'svelte';
import { Client } from './api/client';
import Page from './components/frame/Page.svelte';
import { App } from './state/app.svelte';

const client = new Client(new URL('.', document.baseURI));
const target = document.getElementById('app');
if (target) mount(Page, { target, props: { app: new App(client, window) } });
