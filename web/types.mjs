/** Documents the types that the viewer and its sources share; contains no code. */

/**
 * The runs that the viewer shows. ComfyUI's source reads a server, that of an offline page the manifest in the page.
 *
 * @typedef {object} Source
 * @property {() => Run[]} runs newest first. The viewer calls it often, so it answers from memory. A run stays the same
 *   object, or keeps its id; `onChange` reports its changes
 * @property {(id: string) => Promise<Manifest | null>} manifest reads the current manifest, and stores it in the run of
 *   `runs()`; null if that fails. The viewer calls it for a run whose `manifest` is null or whose `stale` is true
 * @property {(id: string, name: string) => Promise<{done: boolean, text: string}>} [get] downloads a decoder that a note of a run
 *   offers, and returns whether it is there, and that in words; absent if the source cannot
 * @property {(id: string, request: "pause" | "go_on" | "stop", step?: number) => Promise<string>} [control] acts on a running run,
 *   and returns an error in words, or nothing; absent if the source cannot
 * @property {(id: string, file: string, at: number | null) => string} picture an address for `img.src`. A step that is
 *   written twice has the same file name twice. If pictures are cached forever, the address must contain `at`
 * @property {(id: string, file: string, frame: number | null) => string} [exported] an address of the same picture as a
 *   file to save, which the server names; `frame` of a video, null for all. Absent: the picture itself is saved
 * @property {(id: string, file: string) => string} [written] an address of a file that a run has written, by its path in
 *   `manifest.written`; absent if the source cannot open such files
 * @property {(listener: () => void) => (() => void)} onChange calls `listener` after each change until the returned
 *   function is called
 *
 * @typedef {object} Run
 * @property {string} id
 * @property {"running" | "finished" | "stopped" | "interrupted" | "failed"} state
 * @property {number | null} index newest step that is known to exist, counted from 1
 * @property {number | null} total number of steps
 * @property {number} started milliseconds since 1970; Infinity until it is known
 * @property {number | null} [written] last update of the run, milliseconds since 1970; absent or null if the source
 *   always reports the end of a run
 * @property {string} [node] execution id of the node that watches it, in ComfyUI
 * @property {boolean} gone its pictures are deleted; the loaded ones stay
 * @property {Manifest | null} manifest as last read
 * @property {boolean} [stale] whether a newer manifest exists; absent if the source cannot know
 * @property {{file: string, at: number | null} | null} [thumbnail] for the list of runs, until the manifest is read
 *
 * @typedef {object} Manifest `run.json`; unknown values are null, unknown keys stay
 * @property {string} id
 * @property {Run["state"]} state
 * @property {string | null} started ISO 8601
 * @property {string} [folder] of a further run of the same prompt, in the folder of the page
 * @property {{sampler_node?: unknown}} [host] execution id of the sampler, for a run in ComfyUI
 * @property {number | null} seconds
 * @property {string | null} space
 * @property {{name: string | null, kind: string | null} | null} decoder
 * @property {Sampler} sampler
 * @property {{width: number | null, height: number | null, shown_width: number | null, shown_height: number | null,
 *   items: number | null, frames: number | null, fps: number | null} | null} picture `shown_...` is the size of
 *   the final image, whose aspect ratio all pictures have; `items` of a batch; `frames` of a video, played at `fps`
 * @property {ManifestStep[]} steps in the order of `index`
 * @property {{psnr_db: number | null, decoder: string | null, to_last_db: [number, number][]} | null} [truth] how true the
 *   pictures are: the last one, and each step, by its index, against the last one
 * @property {{paused: boolean, kept: number[]}} [control] of a running run that its host can act on: whether it waits, and the
 *   earlier steps that can become its result
 * @property {{sampler_ms: number | null, end_ms: number | null, memory_mb: number | null, device: string | null} | null} [cost]
 *   what the preview costs
 * @property {string | null} [prefix] begin of the names of files that the user saves
 * @property {{place: string, path: string, files: number, sheet: string | null, animation: string | null,
 *   page: string | null} | null} [written] the folder that the run writes, as the user knows it and in full, the number of
 *   its files, and the paths of some
 * @property {string[]} notes
 * @property {Record<string, string>} [offers] name of the published decoder that a note offers, by the note
 * @property {string | null} [sheet] file of the contact sheet
 * @property {string | null} [animation] file of the animation
 * @property {{star: boolean, note: string}} [marks] of the user
 *
 * @typedef {string | number | boolean | null} Setting of a sampler, as its host names it
 *
 * @typedef {object} Sampler settings of the sampler
 * @property {number | null} steps
 * @property {(number | null)[]} sigmas as planned
 * @property {(number | null)[]} shape of its latents, `[B, C, H, W]` or `[B, C, T, H, W]`; empty if unknown
 * @property {ModelFile | null} model
 * @property {ModelFile[] | null} loras
 * @property {Setting} [seed]
 * @property {Setting} [cfg]
 * @property {Setting} [name]
 * @property {Setting} [scheduler]
 * @property {Setting} [strength]
 * @property {Setting} [guidance]
 * @property {Setting} [prompt]
 * @property {Setting} [kept_step] the step that the user kept as the result
 *
 * @typedef {{name: string, hash: string | null, weight: number | null}} ModelFile a model, or a LoRA with its weight
 *
 * @typedef {object} ManifestStep
 * @property {number} index counted from 1
 * @property {number | null} sigma
 * @property {number | null} at seconds since the start of the run
 * @property {string[]} files empty: a step without a picture. Else in item-major order:
 *   `items * frames` files: frame `f` of item `i` is `files[i * frames + f]`;
 *   `items` files: one per item; for a video each is an animated WebP;
 *   fewer files: the first items. A step with its own `frames` has that number instead of `picture.frames`
 * @property {string[]} [noisy_files] pictures of the noisy latents, as many as `files`, which are of the denoised ones
 * @property {number} [frames]
 * @property {number | null} [decode_ms]
 * @property {number | null} [change] since the picture of the step before, as RMS of 0 to 1; null or absent if unknown
 * @property {"denoised" | "noisy" | null} [show] what the picture shows
 * @property {number} [not_finite] share of the latents that are NaN or infinite, above 0 and up to 1; absent if none are
 *
 * @typedef {object} ShownStep a run at one of its steps
 * @property {Run} run
 * @property {ManifestStep | null} step null: it has no picture yet
 * @property {number | null} item of a batch; null: all items
 *
 * @typedef {ShownStep & {step: ManifestStep}} PicturedStep a run at a step that has a picture
 */

/**
 * The user's preferences. A host may save them (`options.onView`) and restore them (`options.view`); the defaults are in
 * `DEFAULT_VIEW` of `viewer.mjs`.
 *
 * @typedef {object} View
 * @property {number} speed steps per second during playback
 * @property {boolean} smooth enlarge smoothly; false: nearest pixel
 * @property {boolean} follow select a run when it begins, unless the step is locked
 * @property {"wipe" | "side" | "difference"} compare
 * @property {"step" | "sigma"} lock what two compared runs have in common
 * @property {"denoised" | "noisy"} latents shown where a step has both
 *
 * @typedef {object} ViewerOptions
 * @property {Partial<View>} [view]
 * @property {(changed: Partial<View>) => void} [onView] called with each preference that the user changes
 * @property {boolean} [wheelNeedsFocus] the wheel scrolls the page until the user has clicked into the viewer
 * @property {string} [idle] text while there is no run
 * @property {boolean} [still] neither steps nor runs can arrive
 * @property {import("./action-menu.mjs").Actions[]} [actions] further groups of the menu on a picture
 * @property {HTMLElement} [footer] of the host, shown below the viewer's own parts
 * @property {(run: Run) => void} [onRun] called with the selected run when another one is selected
 */

/**
 * The user's commands by the names that shortcuts and buttons use. A command that returns false had nothing to do.
 *
 * @typedef {object} Commands
 * @property {(count: number) => unknown} move by steps with a picture
 * @property {(index: number) => unknown} goTo
 * @property {() => unknown} first
 * @property {() => unknown} end
 * @property {() => unknown} play
 * @property {() => unknown} lock
 * @property {() => unknown} live
 * @property {(number: number) => unknown} run selects a run; 1 is the newest
 * @property {(id: string, other: boolean) => unknown} choose selects a run; `other`: for a comparison
 * @property {() => unknown} compare
 * @property {() => unknown} pin
 * @property {(index: number) => unknown} compareStep
 * @property {(item: number, other: boolean) => unknown} selectItem of a batch; `other`: for a comparison
 * @property {(count: number) => unknown} moveItem
 * @property {() => unknown} showBatch
 * @property {() => unknown} toggleFrames
 * @property {(fraction: number) => unknown} seekFrame
 * @property {(count: number) => unknown} moveFrames
 * @property {(direction: 1 | -1) => unknown} changeSpeed
 * @property {(changed: Partial<View>) => unknown} setView
 * @property {() => unknown} latents
 * @property {() => unknown} smooth
 * @property {() => unknown} oneToOne
 * @property {() => unknown} fullscreen
 * @property {() => unknown} shortcuts
 * @property {() => unknown} figures
 * @property {() => unknown} menu
 * @property {() => unknown} pauseRun
 * @property {() => unknown} keep
 * @property {() => unknown} save
 * @property {() => unknown} copy
 * @property {() => unknown} copyPath
 * @property {() => unknown} openTab
 * @property {() => unknown} back
 * @property {() => void} render
 */
