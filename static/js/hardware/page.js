// What the machine is made of: processor, memory, accelerators, system; with a copy for reports.

import { html, signal, useEffect } from "../shared/html.js";
import { getJson, singleFlight } from "../shared/api.js";
import { NONE, bytes } from "../shared/format.js";
import { CopyButton, Empty, Problem } from "../shared/controls.js";

const RETRY_MS = 1000;

const hardware = signal(null);
const problem = signal("");

const refresh = singleFlight(async () => {
  try {
    hardware.value = await getJson("/api/hardware");
    problem.value = "";
  } catch (error) {
    problem.value = error.message;
  }
});

const ENVIRONMENTS = { native: "No container", container: "Container", virtual_machine: "Virtual machine", wsl: "Windows Subsystem for Linux", other: "Other", unknown: "Unknown" };
const MEMORIES = { dedicated: "", unified: "unified with the host", shared_system: "shared with the host", unknown: "" };
const VENDORS = { nvidia: "NVIDIA", amd: "AMD", intel: "Intel", apple: "Apple" };

const words = (...parts) => parts.filter(Boolean).join(" ") || NONE;
const size = (value) => (value === null ? NONE : bytes(value));
const number = (value) => value ?? NONE;

function systemFacts({ operating_system: system, architecture, environment }) {
  return [
    ["Operating system", words(system.name, system.version)],
    ["Kernel", words(system.kernel)],
    ["Architecture", words(architecture.raw_name)],
    ["Environment", environment.name ? `${ENVIRONMENTS[environment.kind]} (${environment.name})` : ENVIRONMENTS[environment.kind]],
  ];
}

function processorFacts({ cpu, memory }) {
  return [
    ["Processor", words(cpu.model)],
    ["Sockets", number(cpu.socket_count)],
    ["Cores", number(cpu.physical_core_count)],
    ["Threads", number(cpu.logical_thread_count)],
    ["Memory", size(memory.capacity_bytes)],
  ];
}

function acceleratorFacts({ model, vendor, architecture, memory, driver, power_limit_watts: watts }) {
  return [
    ["Model", words(model ?? VENDORS[vendor] ?? vendor)],
    ["Architecture", words(architecture)],
    ["Memory", memory.capacity_bytes === null ? words(MEMORIES[memory.kind]) : words(bytes(memory.capacity_bytes), MEMORIES[memory.kind])],
    ["Driver", words(driver.name, driver.version)],
    ["Power limit", watts === null ? NONE : `${Math.round(watts)} W`],
  ];
}

/** The same facts as lines of text. */
function report(found) {
  const sections = [["System", systemFacts(found)], ["Processor and memory", processorFacts(found)], ...found.accelerators.map((each) => [`Accelerator ${each.index}`, acceleratorFacts(each)])];
  return `${sections.map(([title, facts]) => [title, ...facts.map(([name, value]) => `  ${name}: ${value}`)].join("\n")).join("\n")}\n`;
}

function Section({ title, facts }) {
  return html`<section class="card" aria-label=${title}><div class="card-head"><h2>${title}</h2></div>
    <div class="card-body"><dl class="facts num">${facts.map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl></div></section>`;
}

export default function HardwarePage({ active }) {
  const found = hardware.value;
  useEffect(() => {
    if (!active || found) return undefined;
    refresh();
    const timer = setInterval(refresh, RETRY_MS); // it is being detected
    return () => clearInterval(timer);
  }, [active, found]);
  return html`
    <header class="page-head"><h1>Hardware</h1><span class="muted small">Detected when the server started</span>
      ${found && html`<div class="tools"><${CopyButton} withText small=${false} label="Copy for a report" text=${() => report(found)} /></div>`}</header>
    <div class="page-body">
      ${problem.value && html`<${Problem}>Not shown: ${problem.value}</${Problem}>`}
      ${found && html`
        <${Section} title="System" facts=${systemFacts(found)} />
        <${Section} title="Processor and memory" facts=${processorFacts(found)} />
        ${found.accelerators.map((each) => html`<${Section} key=${each.index} title=${`Accelerator ${each.index}`} facts=${acceleratorFacts(each)} />`)}
        ${!found.accelerators.length && html`<${Empty} icon="gauge" title="No accelerator found">Models run on the processor. With NVIDIA cards, install llmsnap with its GPU extra to see them here.</${Empty}>`}`}
    </div>`;
}
