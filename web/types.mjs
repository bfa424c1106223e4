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
 * @property {boolean} gone its pictures are deleted; the loaded ones stay
 * @property {Manifest | null} manifest as last read
 * @property {boolean} [stale] whether a newer manifest exists; absent if the source cannot know
 * @property {{file: string, at: number | null} | null} [thumbnail] for the list of runs, until the manifest is read
 *
 * @typedef {object} Manifest `run.json`; unknown values are null, unknown keys stay
 * @property {string} id
 * @property {string} state as in `Run`
 * @property {string} started ISO 8601
 * @property {string} [folder] of a further run of the same prompt, in the folder of the page
 * @property {number | null} seconds
 * @property {string | null} space
 * @property {{name: string, kind: string, scale: number, source: string} | null} decoder
 * @property {{steps, sigmas, seed, cfg, name, scheduler, strength, guidance, model: ModelFile | null, loras: ModelFile[] | null,
 *   shape: (number | null)[], prompt?: string | null}} sampler `shape` of its latents, `[B, C, H, W]` or
 *   `[B, C, T, H, W]`; empty if unknown
 * @property {{width, height, shown_width, shown_height, items, frames, fps} | null} picture `shown_...` is the size of
 *   the final image, whose aspect ratio all pictures have; `items` of a batch; `frames` of a video, played at `fps`
 * @property {ManifestStep[]} steps in the order of `index`
 * @property {{psnr_db: number | null, decoder: string | null, to_last_db: number[][]} | null} [truth] how true the pictures are
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
