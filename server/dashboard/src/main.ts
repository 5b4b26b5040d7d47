/** Starts the page. */
import 'uplot/dist/uPlot.min.css';
import './styles.css';
import { mount } from 'svelte';
import { Client } from './api/client';
import Page from './components/frame/Page.svelte';
import { App } from './state/app.svelte';

// Without a login the service answers for this page, too, with the one that asks for the token.
const client = new Client(new URL('.', document.baseURI), () => location.reload());
const target = document.getElementById('app');
if (target) mount(Page, { target, props: { app: new App(client, window) } });
