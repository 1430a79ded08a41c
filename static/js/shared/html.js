// Preact, its hooks and its signals, with tagged templates instead of JSX.

import { h, render, Fragment, createContext } from "../../vendor/preact.js";
import htm from "../../vendor/htm.js";

export { useCallback, useContext, useEffect, useLayoutEffect, useMemo, useRef, useState, useId } from "../../vendor/preact-hooks.js";
export { batch, computed, effect, signal, untracked, useComputed, useSignal, useSignalEffect } from "../../vendor/signals.js";
export { createContext, render, Fragment };

/** Texts put into a template become text nodes, never markup. */
export const html = htm.bind(h);

/** Join the class names that are set. */
export const classes = (...names) => names.filter(Boolean).join(" ");
