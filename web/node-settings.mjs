/** Shows the inputs of the node as one line or as rows, and only those that have an effect. */

import { HiddenSocket } from "./hidden-socket.mjs";
import { unusedInputs } from "./input-visibility.mjs";
import { modelKey } from "./known-models.mjs";
import { latentCounts } from "./manifest.mjs";
import { modelValues, sourceOf } from "./model-source.mjs";
import { asksForRows, putFirst, setFolded, setRowHidden } from "./picture-first.mjs";
import { promotedWidgets } from "./promoted-widgets.mjs";
import { settingsWords } from "./settings-words.mjs";

const UNFOLDED_PROPERTY = "safelight_unfolded";
const LATENTS_PROPERTY = "safelight_latents"; // what the newest run has sampled, and the nodes that this depends on
const VUE_ROW_PX = 6; // by which an input is higher in Vue nodes
const SPARE_SOCKET = "vae";

/** @typedef {import("./types.mjs").Manifest} Manifest @typedef {ComfyUI.Widget} Widget */
/**
 * @typedef {import("./known-models.mjs").ModelFacts & {items?: number, source?: string}} LatentFacts of a run, which a node's properties hold
 */

export class NodeSettings {
  #node;
  #stage;
  #bar;
  #decoders;
  #models;
  #isVue;
  #socket;
  /** @type {string | null} */ #space = null; // latent space of the model, if it is known
  /** @type {string[]} */ #offered = []; // values of the list of decoders

  /**
   * @param {ComfyUI.Node} node of LiteGraph @param {ComfyUI.DomWidget} stage its widget with the viewer
   * @param {import("./settings-bar.mjs").SettingsBar} bar
   * @param {import("./decoder-list.mjs").DecoderList} decoders
   * @param {import("./known-models.mjs").KnownModels} models
   * @param {() => boolean} isVue whether ComfyUI draws nodes with Vue
   */
  constructor(node, stage, bar, decoders, models, isVue) {
    this.#node = node;
    this.#stage = stage;
    this.#bar = bar;
    this.#decoders = decoders;
    this.#models = models;
    this.#isVue = isVue;
    this.#socket = new HiddenSocket(node, SPARE_SOCKET);
    putFirst(node, stage);
    node.properties[UNFOLDED_PROPERTY] ??= false;
    this.update();
  }

  /**
   * Updates the rows of a node that was loaded, while the graph around it is incomplete.
   *
   * @param {Pick<ComfyUI.SavedNode, "properties">} saved the node in the workflow
   * @returns {number} height of the rows of a node that was saved before they could be folded
   */
  configure({ properties }) {
    if (UNFOLDED_PROPERTY in Object(properties)) return this.update(false), 0;
    /** @param {boolean} unfolded */
    const heightOf = (unfolded) => {
      this.#node.properties[UNFOLDED_PROPERTY] = unfolded;
      this.update(false);
      return this.#height;
    };
    return heightOf(true) - heightOf(false);
  }

  /** Folds the settings into one line, or unfolds them. The workflow saves which. */
  toggleFold() {
    const { properties } = this.#node;
    properties[UNFOLDED_PROPERTY] = !properties[UNFOLDED_PROPERTY];
    this.fit();
  }

  /** By how much the rows are higher than LiteGraph computes them. */
  get extraHeight() {
    return this.#isVue() ? VUE_ROW_PX * this.#rows().filter(({ hidden }) => !hidden).length : 0;
  }

  /** Updates the rows of a node in a complete graph. The viewer keeps its height. */
  fit() {
    const node = this.#node;
    const before = this.#height;
    const unused = this.update();
    const changesAreDrawn = asksForRows(node) || !this.#isVue(); // the first Vue nodes (1.27) do not notice a change
    if (changesAreDrawn) this.#socket.setHidden(unused.has(SPARE_SOCKET));
    const change = this.#height - before;
    if (change) node.setSize([node.size[0], node.size[1] + change]);
  }

  /**
   * Updates the rows and the line.
   *
   * @param {boolean} [isComplete] whether the graph around the node is complete
   * @returns {Set<string>} names of all inputs that have no effect
   */
  update(isComplete = true) {
    const node = this.#node;
    const facts = this.#facts(isComplete);
    /** @param {string} name */
    const isLinked = (name) => Boolean(node.inputs?.some((input, slot) => input.widget?.name === name && (node.isInputConnected?.(slot) ?? input.link != null))); // frontend 1.58 deprecates `link`
    /** @param {string} name */
    const valueOf = (name) => (isLinked(name) ? undefined : this.#widgetOf(name)?.value);
    const unused = unusedInputs(valueOf, facts);
    const folded = !node.properties[UNFOLDED_PROPERTY];
    /** @param {string} name */
    const hasNoEffect = (name) => unused.has(name) && valueOf(name) === this.#defaultOf(name);
    this.#hide((name) => !isLinked(name) && hasNoEffect(name), (name) => !isLinked(name) && folded);
    setFolded(this.#stage, folded);
    this.#space = facts?.space ?? null;
    this.#offerDecoders();
    /** @param {string} decoder */
    const labelOf = (decoder) => this.#decoders.shortLabel(this.#space, decoder);
    /** @param {string} name */
    const defaultOf = (name) => this.#defaultOf(name);
    this.#bar.show(settingsWords({ valueOf, defaultOf, isLinked, unused, labelOf }), !folded);
    return unused;
  }

  /**
   * Hides rows. The properties panel shows those that are only folded.
   *
   * @param {(name: string) => boolean} hasNoEffect @param {(name: string) => boolean} isFolded
   */
  #hide(hasNoEffect, isFolded) {
    const node = this.#node;
    let changed = false;
    for (const widget of this.#rows()) {
      const hidden = hasNoEffect(widget.name);
      changed ||= Boolean(widget.options.hidden) !== hidden;
      setRowHidden(node, widget, hidden, hidden || isFolded(widget.name));
    }
    const last = changed && asksForRows(node) && this.#isVue() ? node.widgets?.pop() : undefined;
    if (last) node.widgets?.push(last); // Vue nodes notice only a change of the list
  }

  /** Stores in the node what a run has sampled. @param {Manifest} manifest */
  remember(manifest) {
    const counts = latentCounts(manifest);
    if (!counts) return;
    const { properties } = this.#node;
    const facts = { ...counts, space: manifest.space, source: sourceOf(this.#node) };
    if (JSON.stringify(facts) !== JSON.stringify(properties[LATENTS_PROPERTY])) properties[LATENTS_PROPERTY] = facts;
    this.#models.set(modelKey(modelValues(this.#node)), { space: facts.space, frames: facts.frames });
    this.#space = facts.space;
    this.#offerDecoders(); // the rows stay as they are: nothing may jump when a run ends
  }

  /**
   * What is known of the latents: from the newest run of the same nodes, else from a run of the same model, else null.
   *
   * @param {boolean} isComplete
   */
  #facts(isComplete) {
    const own = /** @type {LatentFacts | undefined} */ (this.#node.properties[LATENTS_PROPERTY]);
    if (own && (!isComplete || own.source === sourceOf(this.#node))) return own;
    return isComplete ? this.#models.get(modelKey(modelValues(this.#node))) : null;
  }

  get #height() {
    return this.#node.computeSize()[1] + this.extraHeight;
  }

  #rows() {
    return (this.#node.widgets ?? []).filter((widget) => widget !== this.#stage);
  }

  /** @param {string} name */
  #widgetOf(name) {
    return this.#node.widgets?.find((widget) => widget.name === name);
  }

  /** @param {string} name */
  #defaultOf(name) {
    const { required, optional } = this.#node.constructor.nodeData?.input ?? {};
    const [, options] = required?.[name] ?? optional?.[name] ?? [];
    return options?.default;
  }

  #offerDecoders() {
    const decoders = this.#decoders;
    const widget = this.#widgetOf("decoder");
    if (!widget) return;
    this.#offered.splice(0, Infinity, ...decoders.values(this.#space, String(widget.value))); // Vue nodes hold on to the array
    widget.options.values = this.#offered;
    widget.options.getOptionLabel = (decoder) => decoders.label(this.#space, decoder ?? String(widget.value));
    for (const { options, value } of promotedWidgets(this.#node, "decoder")) {
      const values = decoders.values(this.#space, String(value));
      if (String(values) !== String(options.values)) options.values = values;
    }
  }
}
