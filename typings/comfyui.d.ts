// Names of ComfyUI's frontend, 1.27 to 1.58, that Safelight uses. What only some versions have is optional.

declare namespace ComfyUI {
  interface Widget {
    name: string;
    value: unknown;
    label?: string;
    hidden?: boolean;
    serialize?: boolean;
    options: WidgetOptions;
    linkedWidgets?: Widget[];
    callback?(value: unknown): void;
    beforeQueued?(): void;
    computeSize?(width?: number): [number, number] | number[];
  }

  interface WidgetOptions {
    hidden?: boolean;
    hideInPanel?: boolean;
    serialize?: boolean;
    hideOnZoom?: boolean;
    values?: unknown;
    getMinHeight?(): number;
    getOptionLabel?(value?: string | null): string;
  }

  interface DomWidget extends Widget {
    element: HTMLElement;
    node?: Node;
    y?: number;
    computedHeight?: number;
    isVisible?(): boolean;
    computeLayoutSize?(): { minHeight: number; maxHeight?: number; minWidth: number };
  }

  interface Input {
    name: string;
    type: unknown;
    link?: number | null;
    widget?: { name: string };
  }

  interface Output {
    name: string;
    type: unknown;
    links?: number[] | null;
  }

  interface Link {
    origin_id: number | string;
    origin_slot: number;
    target_id: number | string;
    target_slot: number;
  }

  interface SavedNode {
    id: number | string;
    type?: string;
    properties?: Record<string, unknown>;
    inputs?: object[];
  }

  interface SavedWorkflow {
    id?: unknown;
    extra?: Record<string, unknown>;
    nodes?: SavedNode[];
  }

  interface Node {
    id: number | string;
    type: string;
    comfyClass?: string;
    mode: number;
    graph: Graph | null;
    pos: [number, number] | number[];
    size: [number, number] | number[];
    properties: Record<string, unknown>;
    inputs: Input[];
    outputs: Output[];
    widgets?: Widget[];
    subgraph?: Graph;
    constructor: Function & { nodeData?: NodeData };
    computeSize(): [number, number] | number[];
    setSize(size: number[]): void;
    setDirtyCanvas(foreground: boolean, background: boolean): void;
    connect(slot: number, target: Node, targetSlot: number): unknown;
    removeInput(slot: number): void;
    serialize(): SavedNode;
    addDOMWidget(name: string, type: string, element: HTMLElement, options: WidgetOptions): DomWidget;
    getInputLink?(slot: number): Link | null;
    getInputNode?(slot: number): Node | null;
    getOutputNodes?(slot: number): Node[] | null;
    isInputConnected?(slot: number): boolean;
    getLayoutWidgets?(): Widget[];
    pasteFiles?(files: File[]): boolean;
    onDragOver?(event: DragEvent): boolean;
    onSerialize?(saved: SavedNode, ...more: unknown[]): void;
    onAdded?(...args: unknown[]): void;
    onRemoved?(...args: unknown[]): void;
    onConfigure?(saved: SavedNode, ...more: unknown[]): void;
    onConnectionsChange?(...args: unknown[]): void;
  }

  /** What the server sends about a type of node. */
  interface NodeData {
    name?: string;
    input?: Record<"required" | "optional", Record<string, [type: unknown, options?: { default?: unknown; options?: string[] }]> | undefined>;
  }

  /** The definition of a node from which ComfyUI creates the entry of its search. */
  interface NodeDefinition extends NodeData {
    postProcessSearchScores?(scores: number[]): number[];
  }

  /** The socket of a subgraph inside of it. */
  interface SubgraphSlot {
    name: string;
    connect(input: Input, node: Node): unknown;
  }

  interface Graph {
    id: string;
    rootGraph: Graph;
    extra?: Record<string, unknown>;
    nodes?: Node[];
    _nodes?: Node[];
    inputs: { name: string }[];
    inputNode?: { id: number | string; slots?: SubgraphSlot[] };
    add(node: Node): void;
    getNodeById(id: number | string): Node | null;
    getNodeOnPos?(x: number, y: number): Node | null;
    getLink(id: number | null | undefined): Link | null | undefined;
  }

  /** `DragAndScale` of a canvas. */
  interface Viewport {
    scale: number;
    offset: [number, number];
    onChanged?(...args: unknown[]): void;
  }

  interface Canvas {
    canvas: HTMLCanvasElement;
    graph: Graph | null;
    ds: Viewport;
    setDirty(foreground: boolean, background?: boolean): void;
    onDrawForeground?(...args: unknown[]): void;
    convertEventToCanvasOffset(event: MouseEvent): [number, number];
    emitBeforeChange?(): void;
    emitAfterChange?(): void;
    selectItems?(nodes: Node[]): void;
  }

  interface Settings {
    get(id: string): unknown;
    set(id: string, value: unknown): Promise<void>;
  }

  /** Settings that send an event `ID.change` when the user changes one. */
  interface LiveSettings {
    getSettingValue(id: string): unknown;
    addEventListener(type: string, listener: (event: CustomEvent<{ value: unknown }>) => void): void;
  }

  interface Setting {
    id: string;
    category: string[];
    name: string;
    tooltip?: string;
    type: string;
    attrs?: object;
    options?: unknown;
    defaultValue: unknown;
    onChange?(value: unknown): void;
  }

  interface ExtensionManager {
    setting: Settings;
    toast?: { add(message: object): void };
    dialog: { prompt(options: { title: string; message: string; defaultValue: string }): Promise<string | null> };
    workflow?: { activeWorkflow?: { changeTracker?: { captureCanvasState?(): void; checkState?(): void } } };
    registerSidebarTab?(tab: { id: string; icon: string; title: string; tooltip: string; type: string; render(element: HTMLElement): void }): void;
  }

  interface Extension {
    name: string;
    settings?: Setting[];
    commands?: { id: string; icon: string; label: string; function(): unknown }[];
    menuCommands?: { path: string[]; commands: string[] }[];
    setup?(): void;
    beforeRegisterNodeDef?(type: unknown, definition: NodeDefinition): void;
    refreshComboInNodes?(): void;
    nodeCreated?(node: Node): void;
  }

  interface App {
    canvas: Canvas;
    extensionManager: ExtensionManager;
    ui: { settings: LiveSettings };
    registerExtension(extension: Extension): void;
    handleFile(file: File): Promise<void>;
    loadGraphData(workflow: object, clean: boolean, restoreView: boolean, name: string): Promise<void>;
    loadApiJson(prompt: object | null, name: string): Promise<void>;
  }

  interface Api {
    user?: string;
    apiURL(path: string): string;
    fetchApi(route: string, options?: RequestInit): Promise<Response>;
    dispatchEvent(event: Event): boolean;
    addEventListener(type: string, listener: (event: CustomEvent) => void, options?: AddEventListenerOptions): void;
  }
}

declare module "*/scripts/app.js" {
  export const app: ComfyUI.App;
}

declare module "*/scripts/api.js" {
  export const api: ComfyUI.Api;
}

interface Window {
  LiteGraph?: {
    vueNodesMode?: boolean;
    registered_node_types: Record<string, { nodeData?: ComfyUI.NodeData } | undefined>;
    createNode(type: string): ComfyUI.Node | null;
  };
}
