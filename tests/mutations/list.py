"""The mutations. Each promise of the README and each threat of SECURITY.md has at least one."""

from .mutation import Mutation

# Titles in "What you get" of the README.
EVERY_STEP = "Every step, also afterwards."
SETTLES = "Where it settles."
ESTIMATE = "The estimate of the final image, not the noise."
ANY_STEP = "From any step."
LANGUAGES = "In your language."
ACT = "Act on a run."
RECORD = "A record on disk."
LIBRARY = "A library of all runs."
UNCHANGED = "An unchanged run."
LOW_COST = "A low cost."
YOUR_MODEL = "Your model too."
# Threats in the table of SECURITY.md.
CODE_IN_FILES = "Decoder files that run code"
LARGE_FILES = "Decoder files that use too much memory or time"
CHANGING_FILES = "Decoder files that change while in use"
LEARNED_NAMES = "Decoder files that claim to be learned, for a space or a VAE whose name is a path"
DOWNLOADED_FILES = "Downloaded decoders that were altered"
LEARNED_FILES = "Files of what was learned that are damaged, or come from others"
ALTERED_FILES = "Shipped decoders that were altered"
FOREIGN_RUNS = "Runs from other people (`safelight view`, Load Run)"
DELETED_RUNS = "Requests to delete a run in the library that mean something else"
LEADING_OUT = "Prefixes and names that lead out of the output folder"
RUN_PAGES = "Pages of runs that ComfyUI's server opens"
TEXT_IN_PAGES = "Text in prompts, notes, decoders and files that is shown in pages"
TEXT_IN_TERMINALS = "Text in names of files, decoders and errors that is shown in a terminal or a log"
OTHER_SITES = "Other sites in the same browser, other accounts of the same machine"
GRADIO_FILES = "The files of `safelight gradio`"
WRITTEN_FILES = "Files that Safelight writes"
COMFYUI_PEOPLE = "Other people on the same ComfyUI"
RUN_CONTROL = "Others who pause or stop a run of ComfyUI"
LIVE_PAGE = "Others who open ComfyUI's live page or its streams"
PREVIEW_MESSAGES = "Others who get the pictures of a run as ComfyUI's own preview messages"
CHOICES = "Others who choose for you, or see what you choose from"
REPORTS = "What `safelight report` prints for other people's eyes"
INVOKEAI_ACCOUNTS = "Other accounts of the same InvokeAI (`multiuser: true`)"
INVOKEAI_PAGE = "The page with all runs on InvokeAI's server"
STORE_CREDENTIALS = "Credentials of stores of runs (`s3://...`)"
HOSTILE_STORES = "Stores that hold hostile runs (`safelight view s3://...`)"
LATENTS_OF_OTHERS = "Files of latents from other people (`safelight decode`, pictures in ComfyUI's asset browser)"
CHOSEN_STORES = "Others who choose where a host copies saved runs"

PAINTED = ("tests/tiers/browser/test_what_is_painted.py",)
LIVE_SCREEN = ("tests/tiers/browser/test_live_picture.py",)
EACH_STEP = ("tests/tiers/comfyui/test_each_step.py",)
OWNERS = ("tests/hosts/comfyui/test_owners.py", "tests/hosts/comfyui/test_routes.py")
LIVE_RUNS = ("tests/preview/sinks/test_live_runs.py",)
VIEWER_MODULES = ("tests/web/test_modules.py",)

MUTATIONS = (
    # Every step, also afterwards
    Mutation(
        "every picture of the viewer is transparent",
        EVERY_STEP,
        "web/style.mjs",
        ".cell :is(img, canvas) { display: block;",
        ".cell :is(img, canvas) { opacity: 0; display: block;",
        PAINTED,
    ),
    Mutation(
        "every picture of the node is transparent",
        EVERY_STEP,
        "web/style.mjs",
        ".cell :is(img, canvas) { display: block;",
        ".cell :is(img, canvas) { opacity: 0; display: block;",
        LIVE_SCREEN,
    ),
    Mutation(
        "the viewer shows the pictures of a run in reverse",
        EVERY_STEP,
        "web/image-pane.mjs",
        "      else if (this.#cells[i].firstChild !== image) this.#cells[i].replaceChildren(image);",
        "      else if (!this.#cells[i].firstChild) this.#cells[i].replaceChildren(image);",
        PAINTED,
    ),
    Mutation(
        "the live screen is one step late, except at the end",
        EVERY_STEP,
        "preview/sinks/live_view.py",
        "        self._files.show(picture)\n",
        "        late, self._late = getattr(self, '_late', picture), picture\n"
        "        pixels = picture.pixels if picture.index == picture.total else late.pixels\n"
        "        self._files.show(__import__('dataclasses').replace(picture, pixels=pixels))\n",
        EACH_STEP,
    ),
    Mutation(
        "the arrow keys skip a step",
        EVERY_STEP,
        "web/navigation.mjs",
        "    this.index = steps[Math.min(Math.max(at + count, 0), steps.length - 1)].index;",
        "    this.index = steps[Math.min(Math.max(at + 2 * count, 0), steps.length - 1)].index;",
        VIEWER_MODULES,
    ),
    Mutation(
        "a second run is compared at the last step in place of the same one",
        EVERY_STEP,
        "web/navigation.mjs",
        "    return nearestStep(steps, step.index);",
        "    return steps.at(-1);",
        VIEWER_MODULES,
    ),
    # The estimate of the final image, not the noise
    Mutation(
        "FLUX with a scheduler shows an estimate at the noise level before the step, as InvokeAI does",
        ESTIMATE,
        "hosts/invokeai/x0.py",
        "            x0 = reached.float() - after * prediction.float()\n",
        "            x0 = reached.float() - sigma * prediction.float()\n",
        ("tests/hosts/invokeai/test_invokeai_x0.py",),
    ),
    Mutation(
        "the noise is shown by default",
        ESTIMATE,
        "preview/step.py",
        '        if self.denoised is None or (show == "noisy" and self.noisy is not None):',
        "        if self.denoised is None or self.noisy is not None:",
        ("tests/preview/test_step.py::test_the_estimate_is_shown_unless_the_noise_is_wanted",),
    ),
    Mutation(
        "x0 of a flow model has the wrong sign",
        ESTIMATE,
        "hosts/x0.py",
        "            x0 = torch.sub(x, out, alpha=level.sigma)\n",
        "            x0 = torch.add(x, out, alpha=level.sigma)\n",
        ("tests/hosts/test_x0.py::test_x0_of_a_flow_scheduler_is_the_picture_that_the_model_knows",),
    ),
    Mutation(
        "a loop of the user that starts over goes on in the same run",
        ESTIMATE,
        "hosts/diffusers/watch.py",
        "        if here is not None and self._kind.is_loop and here.starts_over(call):",
        "        if here is not None and self._kind.has_callback and here.starts_over(call):",
        ("tests/tiers/diffusers/test_own_loop.py",),
    ),
    # A record on disk
    Mutation(
        "every process of a training writes its own record",
        RECORD,
        "hosts/main_process.py",
        "        return torch.distributed.get_rank() == 0",
        "        return torch.distributed.get_rank() >= 0",
        ("tests/hosts/test_trainer.py::test_of_two_processes_only_the_first_writes",),
    ),
    Mutation(
        "a training that goes on forgets its earlier validations",
        RECORD,
        "hosts/training_series.py",
        "    continued.resume(earlier)\n",
        "",
        ("tests/hosts/test_trainer.py",),
    ),
    Mutation(
        "each file but the last has the picture of the first step",
        RECORD,
        "preview/sinks/step_files.py",
        "        pixels, fps = self._limited(picture)\n",
        "        self._kept = getattr(self, '_kept', picture)\n"
        "        pixels, fps = self._limited(picture if picture.index == picture.total else self._kept)\n",
        ("tests/preview/sinks/test_step_files.py", "tests/preview/test_saved_run.py"),
    ),
    Mutation(
        "each file but the last has the picture of the first step, on ComfyUI",
        RECORD,
        "preview/sinks/step_files.py",
        "        pixels, fps = self._limited(picture)\n",
        "        self._kept = getattr(self, '_kept', picture)\n"
        "        pixels, fps = self._limited(picture if picture.index == picture.total else self._kept)\n",
        EACH_STEP,
    ),
    Mutation(
        "each file but the last has the picture of the first step, on InvokeAI",
        RECORD,
        "preview/sinks/step_files.py",
        "        pixels, fps = self._limited(picture)\n",
        "        self._kept = getattr(self, '_kept', picture)\n"
        "        pixels, fps = self._limited(picture if picture.index == picture.total else self._kept)\n",
        ("tests/tiers/invokeai/test_invokeai_families.py",),
    ),
    Mutation(
        "latents are saved under the number of the next step",
        RECORD,
        "preview/sinks/latent_files.py",
        '        facts = {"format": FORMAT, "run": run.id, "space": run.space or "", "step": str(step.index)}',
        '        facts = {"format": FORMAT, "run": run.id, "space": run.space or "", "step": str(step.index + 1)}',
        ("tests/preview/sinks/test_latent_files.py",),
    ),
    Mutation(
        "run.json stays at running when a run ends",
        RECORD,
        "preview/sinks/run_folder.py",
        "        self._seconds = self._elapsed_s()\n        self.state = state\n",
        "        self._seconds = self._elapsed_s()\n",
        ("tests/preview/sinks/test_run_folder.py",),
    ),
    # An unchanged run
    Mutation(
        "the worker decodes the sampler's own tensor, not a copy",
        UNCHANGED,
        "preview/snapshot.py",
        "        copy = self._memory(latents.shape, latents.dtype, latents.device, queued and queued.writer)\n"
        "        copy.copy_(latents.detach(), non_blocking=True)\n",
        "        copy = latents.detach()\n",
        (
            "tests/preview/test_pipeline.py::test_a_picture_shows_the_values_that_the_tensor_had_when_it_was_offered",
            "tests/preview/test_pipeline.py::test_the_pipeline_keeps_no_reference_to_the_sampler_s_tensors",
        ),
        also=(
            (
                "preview/snapshot.py",
                "            self._layouts[layout] = Pieces.of(latents, part)\n",
                "            self._layouts[layout] = None\n",
            ),
        ),
    ),
    Mutation(
        "a preview draws from the global random numbers",
        UNCHANGED,
        "preview/decode/run_decoder.py",
        "        plan, decoder = self._planned(latents[:, :, self._shown])\n",
        "        plan, decoder = self._planned(latents[:, :, self._shown])\n        torch.rand(1)\n",
        ("tests/preview/test_pipeline.py::test_a_run_leaves_the_state_of_torch_alone",),
    ),
    Mutation(
        "an error while a step is copied ends the run",
        UNCHANGED,
        "preview/pipeline.py",
        '            self._run.missing.lose(step.index, f"not shown: {describe(error)}")\n'
        '            log.debug("step not copied", exc_info=True)\n            return True\n',
        "            raise\n",
        (
            "tests/preview/test_pipeline.py::test_a_selection_that_raises_does_not_reach_the_sampler",
            "tests/preview/test_pipeline.py::test_an_odd_tensor_costs_its_own_picture_only",
        ),
    ),
    Mutation(
        "the blocks of a modular pipeline stay hooked",
        UNCHANGED,
        "hosts/diffusers/watch.py",
        "                hooks.append(Hook(block, LOOP_STEP, partial(self._unless_stopped, pipeline)))",
        "                Hook(block, LOOP_STEP, partial(self._unless_stopped, pipeline))",
        ("tests/tiers/diffusers/test_modular.py",),
    ),
    Mutation(
        "cancel in ComfyUI is swallowed",
        UNCHANGED,
        "hosts/comfyui/watch.py",
        "            if callback is not None:\n                callback(step, denoised, noisy, total)\n",
        "            try:\n                callback and callback(step, denoised, noisy, total)\n"
        "            except BaseException:\n                pass\n",
        ("tests/tiers/comfyui/test_faults.py",),
    ),
    Mutation(
        "cancel in InvokeAI is heard fourteen seconds later",
        UNCHANGED,
        "hosts/invokeai/watch.py",
        "        if self._context.util.is_canceled():\n            callback(state, *args, **kwargs)  # raises",
        "        import time\n\n        if self._context.util.is_canceled():\n"
        "            self._since = getattr(self, '_since', time.monotonic())\n"
        "        if self._context.util.is_canceled() and time.monotonic() > self._since + 14:\n"
        "            callback(state, *args, **kwargs)  # raises",
        ("tests/tiers/invokeai/test_invokeai_server.py",),
    ),
    # A low cost
    Mutation(
        "steps are decoded on the sampler's thread",
        LOW_COST,
        "preview/pipeline.py",
        "        if not self._mailbox.put(queued) and queued.keep:\n",
        "        if (picture := self._decode(queued)) is not None:\n            self._hand_out(picture, queued.sinks)\n"
        "        if not self._mailbox.put(queued) and queued.keep:\n",
        (
            "tests/preview/test_pipeline.py::test_a_slow_decoder_does_not_lose_or_reorder_steps_for_files",
            "tests/preview/test_pipeline.py::test_the_worker_is_a_daemon_named_after_the_run",
            "tests/preview/test_pipeline.py::test_a_step_is_decoded_once_for_all_sinks",
        ),
    ),
    Mutation(
        "every step is copied, although no sink wants it",
        LOW_COST,
        "preview/pipeline.py",
        "            if not wanted:\n                return False\n            began_s",
        "            began_s",
        ("tests/preview/test_pipeline.py::test_a_step_that_no_sink_wants_is_not_copied",),
    ),
    # Your model too
    Mutation(
        "latents of SDXL are scaled as those of Stable Diffusion 1",
        YOUR_MODEL,
        "decoders/latents/space_table.py",
        "scale=0.13025",
        "scale=0.18215",
        ("tests/decoders/latents/test_space_table.py", "tests/decoders/latents/test_identify.py"),
    ),
    Mutation(
        "shipped decoders are not found",
        YOUR_MODEL,
        "decoders/files/shipped.py",
        'return {path.name for path in folder.glob(f"*{SUFFIX}")}',
        "return set()",
        ("tests/decoders/files/test_shipped.py", "tests/decoders/test_catalogue.py"),
    ),
    # Decoder files
    Mutation(
        "a pickle may name any function",
        CODE_IN_FILES,
        "decoders/files/torch_pickle.py",
        "        if path not in ALLOWED_GLOBALS:\n            raise UnsupportedPickleError(path)\n",
        "",
        ("tests/decoders/files/test_decoder_file.py::test_a_file_with_code_is_refused_and_the_code_never_runs",),
        also=(
            ("decoders/files/torch_pickle.py", "name.path not in ALLOWED_CALLS or type(arguments)", "type(arguments)"),
            (
                "decoders/files/torch_pickle.py",
                "self.stack.append(ALLOWED_CALLS[name.path](arguments))",
                "self.stack.append(getattr(__import__(name.path.split()[0]), name.path.split()[1])(*arguments))",
            ),
        ),
    ),
    Mutation(
        "a file of any size is read",
        LARGE_FILES,
        "decoders/files/regular_file.py",
        "        if (size := os.fstat(file.fileno()).st_size) > max_bytes:\n",
        "        if (size := os.fstat(file.fileno()).st_size) > max_bytes << 20:\n",
        ("tests/decoders/files/test_decoder_file.py::test_a_file_that_is_too_large_is_not_read",),
        also=(
            (
                "decoders/files/regular_file.py",
                "        content = file.read(max_bytes + 1)\n    if len(content) > max_bytes:\n",
                "        content = file.read()\n    if len(content) > max_bytes << 20:\n",
            ),
        ),
    ),
    Mutation(
        "compressed parts of a torch file are unpacked",
        LARGE_FILES,
        "decoders/files/torch_pickle.py",
        "        if any(entry.compress_type or entry.flag_bits & 1 for entry in archive.infolist()):\n"
        '            raise ValueError("its entries are compressed, which torch.save never does")\n'
        "        if sum(entry.file_size for entry in archive.infolist()) > len(content):\n"
        '            raise ValueError("its entries are longer than the file")\n',
        "",
        ("tests/tiers/reliability/test_hostile_weights.py",),
    ),
    Mutation(
        "a decoder is read from a file that is mapped into memory",
        CHANGING_FILES,
        "decoders/files/tensor_file.py",
        "        return read_regular_file(path, max_bytes)\n",
        "        import mmap\n\n        read_regular_file(path, max_bytes)\n"
        "        with path.open('rb') as file:\n"
        "            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n",
        ("tests/tiers/reliability/test_hostile_weights.py",),
    ),
    Mutation(
        "an altered decoder is opened",
        ALTERED_FILES,
        "decoders/files/shipped.py",
        "    if digest != expected:\n",
        "    if not digest:\n",
        ("tests/decoders/files/test_shipped.py::test_a_file_with_one_altered_byte_is_refused_before_it_is_opened",),
    ),
    # Runs from other people
    Mutation(
        "a run may name files outside of its folder",
        FOREIGN_RUNS,
        "preview/file_names.py",
        'name != "" and not name.startswith(".") and not set(name)',
        "True or not set(name)",
        ("tests/preview/test_saved_run.py",),
    ),
    Mutation(
        "a link in the place of a picture is followed",
        FOREIGN_RUNS,
        "decoders/files/contained_file.py",
        "        handle = os.open(name, os.O_RDONLY | NON_BLOCKING | NO_FOLLOW, dir_fd=parent)\n",
        "        handle = os.open(name, os.O_RDONLY | NON_BLOCKING, dir_fd=parent)\n",
        ("tests/decoders/files/test_contained_file.py",),
    ),
    Mutation(
        "a link in the place of a run's folder is followed",
        FOREIGN_RUNS,
        "decoders/files/contained_file.py",
        "            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW, dir_fd=parent)\n",
        "            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY, dir_fd=parent)\n",
        (*LIVE_RUNS, "tests/decoders/files/test_contained_file.py"),
    ),
    Mutation(
        "a picture of any size is decoded",
        FOREIGN_RUNS,
        "preview/saved_run.py",
        "                if width * height > MAX_PICTURE_PIXELS:\n",
        "                if width * height < 0:\n",
        ("tests/preview/test_saved_run.py",),
    ),
    Mutation(
        "an unexpected exception of the image library ends Load Run",
        FOREIGN_RUNS,
        "preview/saved_run.py",
        "        except Exception as error:  # an image library may raise anything for a damaged file\n",
        "        except ZeroDivisionError as error:\n",
        ("tests/preview/test_saved_run.py",),
    ),
    Mutation(
        "a prefix may lead out of the output folder",
        LEADING_OUT,
        "preview/output_folder.py",
        "    if output.resolve() not in path.parents:\n",
        "    if not path.parents:\n",
        ("tests/preview/test_output_folder.py",),
    ),
    Mutation(
        "a typed folder may lead out of the output folder",
        LEADING_OUT,
        "preview/output_folder.py",
        "    if not inside:\n",
        "    if inside is None:\n",
        ("tests/preview/test_output_folder.py",),
    ),
    # Text of others
    Mutation(
        "text in a page can end its script",
        TEXT_IN_PAGES,
        "preview/html/document.py",
        'for character in "<>&":',
        'for character in "&":',
        ("tests/preview/html/test_document.py",),
    ),
    Mutation(
        "a page may run any script",
        TEXT_IN_PAGES,
        "preview/html/document.py",
        '"script-src": "\'sha256-{script}\'",',
        '"script-src": "\'unsafe-inline\'",',
        ("tests/preview/html/test_document.py",),
    ),
    Mutation(
        "a download with other content is installed",
        DOWNLOADED_FILES,
        "decoders/files/download.py",
        "    if (found := blob_id(path)) != decoder.blob:",
        "    if (found := blob_id(path)) == decoder.blob and not found:",
        ("tests/decoders/files/test_download.py",),
    ),
    Mutation(
        "the reset of what was learned follows the name of a VAE out of its folder",
        LEARNED_NAMES,
        "fitting/online/learned_files.py",
        "        if SPACE_NAME.fullmatch(space) and FINGERPRINT.fullmatch(vae)",
        "        if space and vae is not None",
        ("tests/fitting/online/test_learned_files.py",),
    ),
    Mutation(
        "a count in the state of learning may be anything",
        LEARNED_FILES,
        "fitting/online/state.py",
        "    if type(value) is not int or not 0 <= value <= MAX_COUNT:",
        "    if value is None:",
        ("tests/fitting/online/test_state.py",),
    ),
    Mutation(
        "a text in vaes.json becomes a part of a path",
        LEARNED_FILES,
        "hosts/known_vaes.py",
        "if isinstance(text, str) and FINGERPRINT.fullmatch(text)}",
        "if isinstance(text, str) and FINGERPRINT}",
        ("tests/hosts/test_known_vaes.py",),
    ),
    Mutation(
        "the lock of learning is opened through a link",
        LEARNED_FILES,
        "fitting/online/learned_files.py",
        "os.O_RDWR | os.O_CREAT | NON_BLOCKING | NO_FOLLOW, 0o666",
        "os.O_RDWR | os.O_CREAT | NON_BLOCKING | (NO_FOLLOW & 0), 0o666",
        ("tests/fitting/online/test_learned_files.py",),
    ),
    Mutation(
        "the folder of a run is opened through a link that replaced it",
        FOREIGN_RUNS,
        "preview/manifest.py",
        "read_below(root or folder, path.relative_to(root or folder), MAX_MANIFEST_BYTES)",
        "read_below(folder, path.relative_to(folder), MAX_MANIFEST_BYTES)",
        ("tests/preview/test_manifest.py",),
    ),
    Mutation(
        "the list of runs has a whole text of a manifest in memory",
        FOREIGN_RUNS,
        "preview/run_summary.py",
        "    return fact if len(json.dumps(fact)) <= MAX_FACT_CHARS else None",
        "    return fact",
        ("tests/preview/test_manifest.py",),
    ),
    Mutation(
        "a cookie of another server hides the key",
        OTHER_SITES,
        "hosts/local_server.py",
        'for cookie in line.split(";"))',
        "for cookie in [line])",
        ("tests/hosts/test_local_server.py",),
    ),
    Mutation(
        "a report is written through a link",
        WRITTEN_FILES,
        "cli/report_folder.py",
        """        write_below(folder, PurePath(TABLE), f"{table}\\n".encode())""",
        """        (folder / TABLE).write_text(f"{table}\\n")""",
        ("tests/cli/test_report_folder.py",),
    ),
    Mutation(
        "a note is markup on the node and in a page",
        TEXT_IN_PAGES,
        "web/messages.mjs",
        "    this.#noteText.textContent = this.#noteText.title = text;",
        "    this.#noteText.innerHTML = this.#noteText.title = text;",
        ("tests/tiers/browser/test_offline_page.py",),
    ),
    Mutation(
        "a note is markup in gradio",
        TEXT_IN_PAGES,
        "hosts/gradio/page.py",
        'return "".join(char if char.isalnum() else f"&#{ord(char)};" for char in printable(text))',
        "return printable(text)",
        ("tests/hosts/gradio/test_literal.py",),
    ),
    Mutation(
        "names reach the terminal with their sequences",
        TEXT_IN_TERMINALS,
        "errors.py",
        "    if text.isprintable():\n        return text\n",
        "    if text:\n        return text\n",
        ("tests/test_errors.py",),
    ),
    # Servers
    Mutation(
        "a server answers to any host name",
        OTHER_SITES,
        "hosts/local_server.py",
        "        if len(hosts) != 1 or not self._is_ours(hosts[0].strip()):\n",
        "        if len(hosts) != 1:\n",
        ("tests/hosts/test_local_server.py",),
    ),
    Mutation(
        "a server needs no key",
        OTHER_SITES,
        "hosts/local_server.py",
        '        if needs_key and not self._has_key(path, headers.get("cookie", [])):\n',
        "        if not needs_key and not path:\n",
        ("tests/hosts/test_local_server.py",),
    ),
    Mutation(
        "pages of other origins are answered",
        OTHER_SITES,
        "hosts/local_server.py",
        "        if not (same_site or is_link) or not own.issuperset(origins):\n",
        "        if not (same_site or is_link):\n",
        ("tests/hosts/test_local_server.py",),
    ),
    Mutation(
        "a file that is cut while it is sent spills into the next answer",
        OTHER_SITES,
        "cli/view.py",
        "        if count:  # the file was cut meanwhile: the browser must not take the next answer for its rest\n"
        "            self.close_connection = True\n",
        "",
        ("tests/cli/test_view.py::test_after_a_file_that_was_cut_meanwhile_no_other_answer_is_sent",),
    ),
    Mutation(
        "safelight gradio gives out any kind of file",
        GRADIO_FILES,
        "hosts/gradio/served_files.py",
        "        if picture_type(name) is None and not name.lower().endswith(SERVED_ENDINGS):\n",
        "        if not name:\n",
        ("tests/hosts/gradio/test_served_files.py",),
    ),
    Mutation(
        "safelight gradio gives out files of other folders",
        GRADIO_FILES,
        "hosts/gradio/served_files.py",
        "            return Path(name).resolve().is_relative_to(self.folder)\n",
        "            return Path(name).is_file()\n",
        ("tests/hosts/gradio/test_served_files.py",),
    ),
    Mutation(
        "a file is written under a name that can be guessed",
        WRITTEN_FILES,
        "decoders/files/contained_file.py",
        'f".{PurePath(name).name}.{uuid.uuid4().hex}.part"',
        'f".{PurePath(name).name}.part"',
        ("tests/decoders/files/test_contained_file.py",),
        also=(
            (
                "decoders/files/contained_file.py",
                "os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW |",
                "os.O_WRONLY | os.O_CREAT |",
            ),
        ),
    ),
    # A library of all runs
    Mutation(
        "undo of a deleted run forgets where it was",
        LIBRARY,
        "preview/run_trash.py",
        "            move_below(root, TRASH / token / RUN_NAME, folder)\n",
        "            move_below(root, TRASH / token / RUN_NAME, PurePath(folder.name))\n",
        ("tests/preview/test_library_changes.py",),
    ),
    Mutation(
        "a stale index is not compared with the folder",
        LIBRARY,
        "preview/folder_listing.py",
        "if known is None or known.changed_ns != stats.st_mtime_ns or not known.is_settled:",
        "if known is None or not known.is_settled:",
        ("tests/preview/test_library_index.py",),
    ),
    Mutation(
        "a search ignores all words but the first",
        LIBRARY,
        "web/library-query.mjs",
        "terms.every((term) =>",
        "terms.slice(0, 1).every((term) =>",
        VIEWER_MODULES,
    ),
    # Requests to delete a run in the library
    Mutation(
        "the folder of the library itself can be deleted",
        DELETED_RUNS,
        "preview/run_library.py",
        "            if entry.folder == self._root:\n",
        "            if entry.folder == self._root.parent:\n",
        ("tests/preview/test_library_changes.py",),
    ),
    Mutation(
        "a link in the place of a run is moved",
        DELETED_RUNS,
        "decoders/files/contained_file.py",
        "        if not stat.S_ISDIR(os.stat(name, dir_fd=old, follow_symlinks=False).st_mode):\n",
        "        if not stat.S_ISDIR(os.stat(name, dir_fd=old).st_mode):\n",
        ("tests/preview/test_library_changes.py",),
    ),
    Mutation(
        "a place in the trash may lead out of the folder",
        DELETED_RUNS,
        "preview/run_trash.py",
        'return pure.anchor == "" and pure.parts != () and not any(part.startswith(".") for part in pure.parts)',
        "return pure.parts != ()",
        ("tests/preview/test_library_changes.py",),
    ),
    Mutation(
        "a deleted run is removed on the same day",
        DELETED_RUNS,
        "preview/run_trash.py",
        "TIME_IN_TRASH = timedelta(days=30)",
        "TIME_IN_TRASH = timedelta(days=0)",
        ("tests/preview/test_library_changes.py",),
    ),
    Mutation(
        "a deleted run without a date is removed",
        DELETED_RUNS,
        "preview/run_trash.py",
        "    except (ValueError, TypeError):  # no date, or one without a time zone\n        return False\n",
        "    except (ValueError, TypeError):  # no date, or one without a time zone\n        return True\n",
        ("tests/preview/test_library_changes.py",),
    ),
    # Other people on the same ComfyUI
    Mutation(
        "with users, everyone lists the saved runs of all",
        COMFYUI_PEOPLE,
        "hosts/comfyui/library.py",
        "        return self._owners is None or self._owners.of(entry.id) == owner\n",
        "        return True\n",
        ("tests/hosts/comfyui/test_library.py",),
    ),
    Mutation(
        "a restart forgets the owners of saved runs",
        COMFYUI_PEOPLE,
        "hosts/comfyui/saved_owners.py",
        "{**_read_owners(self._folder), **(self._owners or {}), run_id: owner}",
        "{run_id: owner}",
        ("tests/hosts/comfyui/test_saved_owners.py",),
    ),
    Mutation(
        "pages of other sites change runs",
        COMFYUI_PEOPLE,
        "hosts/comfyui/library_routes.py",
        "    if not is_own:\n",
        "    if is_own is None:\n",
        ("tests/hosts/comfyui/test_library.py",),
    ),
    Mutation(
        "runs are listed for anyone who knows the workflow",
        COMFYUI_PEOPLE,
        "preview/sinks/live_runs.py",
        "live.owner == owner is not None and _has(live, host)",
        "_has(live, host)",
        OWNERS,
    ),
    Mutation(
        "runs without an owner are listed for those without a key",
        COMFYUI_PEOPLE,
        "preview/sinks/live_runs.py",
        "live.owner == owner is not None and",
        "live.owner == owner and",
        LIVE_RUNS,
    ),
    Mutation(
        "the id in run.json opens the live run",
        COMFYUI_PEOPLE,
        "preview/sinks/live_runs.py",
        "        address = str(uuid.uuid4())\n",
        "        address = run.id\n",
        (*LIVE_RUNS, *OWNERS),
    ),
    Mutation(
        "the key stays in the prompt, which the history shows",
        COMFYUI_PEOPLE,
        "hosts/comfyui/owners.py",
        "extra.pop(KEY, None)",
        "extra.get(KEY)",
        OWNERS,
    ),
    Mutation(
        "a prompt may claim the owner of another one",
        COMFYUI_PEOPLE,
        "hosts/comfyui/owners.py",
        "            extra.pop(OWNER, None)\n",
        "",
        OWNERS,
    ),
    Mutation(
        "the text that the history shows is the key itself",
        COMFYUI_PEOPLE,
        "hosts/comfyui/owners.py",
        '        return hmac.new(self._secret, key.encode(errors="backslashreplace"), "sha256").hexdigest()\n',
        "        return key\n",
        OWNERS,
    ),
    Mutation(
        "the page creates a new key for each prompt",
        COMFYUI_PEOPLE,
        "web/run-key.mjs",
        "      if (!storage.getItem(name)) storage.setItem(",
        "      storage.setItem(",
        VIEWER_MODULES,
    ),
    Mutation(
        "all people have the same key",
        COMFYUI_PEOPLE,
        "web/run-key.mjs",
        "crypto.getRandomValues(new Uint8Array(BYTES));",
        "new Uint8Array(BYTES);",
        VIEWER_MODULES,
    ),
    Mutation(
        "events go to all clients",
        COMFYUI_PEOPLE,
        "hosts/comfyui/sinks.py",
        "    PromptServer.instance.send_sync(event, dict(facts), client)\n",
        "    PromptServer.instance.send_sync(event, dict(facts), None)\n",
        ("tests/tiers/comfyui/test_main_job.py",),
    ),
    Mutation(
        "another person's browser lists the runs, on ComfyUI",
        COMFYUI_PEOPLE,
        "preview/sinks/live_runs.py",
        "live.owner == owner is not None and _has(live, host)",
        "_has(live, host)",
        ("tests/tiers/comfyui/test_run_owners.py",),
    ),
    # Where it settles, from any step, and the pages of runs
    Mutation(
        "no picture ever changes",
        SETTLES,
        "preview/change.py",
        "        return math.sqrt(float(np.mean([*squares]))) / 255\n",
        "        return 0.0 * float(np.mean([*squares]))\n",
        ("tests/preview/test_change.py",),
    ),
    Mutation(
        "a branch begins one step late",
        ANY_STEP,
        "web/branch.mjs",
        'setWidget(widgetOf(existing, "step"), step);',
        'setWidget(widgetOf(existing, "step"), step + 1);',
        VIEWER_MODULES,
    ),
    Mutation(
        "the page of a run has ComfyUI's origin",
        RUN_PAGES,
        "preview/sinks/written_run.py",
        "sandbox allow-scripts",
        "sandbox allow-same-origin allow-scripts",
        OWNERS,
    ),
    # Others who pause or stop a run, or choose
    Mutation(
        "every browser may stop a run",
        RUN_CONTROL,
        "hosts/comfyui/routes.py",
        '        if live is None or live.owner != owner:\n            return refusal(404, "there is no such run, or',
        '        if live is None:\n            return refusal(404, "there is no such run, or',
        OWNERS,
    ),
    Mutation(
        "a stop keeps another step than the one that was asked for",
        ACT,
        "preview/run_control.py",
        "return None if end is None else end._replace(step=end.step or index)",
        "return None if end is None else end._replace(step=index)",
        ("tests/preview/test_run_control.py",),
    ),
    Mutation(
        "the rule to stop counts steps of high noise, before anything can be seen",
        ACT,
        "preview/sinks/stop_rule.py",
        "        self._moved_at: int | None = None  # the last",
        "        self._moved_at: int | None = 0  # the last",
        ("tests/preview/sinks/test_stop_rule.py",),
        also=(("preview/sinks/stop_rule.py", "            self._moved_at = None\n", "            pass\n"),),
    ),
    Mutation(
        "the rule to stop ends a pause",
        ACT,
        "preview/run_control.py",
        "self._end, self.is_waiting = EarlyEnd(0, by_rule=True), True",
        "self._end, self.is_waiting, self.paused = EarlyEnd(0, by_rule=True), True, False",
        ("tests/preview/test_run_control.py",),
    ),
    Mutation(
        "the rule to stop gives a masked run of InvokeAI the wrong result",
        ACT,
        "hosts/invokeai/kept_estimate.py",
        'if getattr(node, "denoise_mask", None) is not None:',
        "if False:",
        ("tests/hosts/invokeai/test_kept_estimate.py",),
    ),
    Mutation(
        "stop and keep returns the noisy latents",
        ACT,
        "hosts/comfyui/stop_and_keep.py",
        "            latents = denoised if step == index else self._saved(step)\n",
        "            latents = noisy if step == index else self._saved(step)\n",
        ("tests/tiers/comfyui/test_stop_and_keep.py",),
    ),
    Mutation(
        "the stream of pictures shows the runs of everybody",
        LIVE_PAGE,
        "hosts/comfyui/live_page.py",
        "    for live in runs.of(owner):\n        for step in reversed(",
        "    for live in list(runs._runs.values()):\n        for step in reversed(",
        ("tests/hosts/comfyui/test_live_page.py",),
    ),
    Mutation(
        "other sites show the live page in a frame",
        LIVE_PAGE,
        "hosts/comfyui/live_page.py",
        "; frame-ancestors 'self'",
        "; frame-ancestors *",
        ("tests/hosts/comfyui/test_live_page.py",),
    ),
    Mutation(
        "recording programs get a video that they cannot show",
        ACT,
        "hosts/comfyui/live_page.py",
        "            content = small_picture(content, STILL_SIDE_PX)\n",
        "            pass\n",
        ("tests/hosts/comfyui/test_live_page.py",),
    ),
    Mutation(
        "preview messages go to all clients",
        PREVIEW_MESSAGES,
        "hosts/comfyui/preview_messages.py",
        "(preview, dict(self.ids)), self.client)",
        "(preview, dict(self.ids)), None)",
        ("tests/tiers/comfyui/test_preview_messages.py",),
    ),
    Mutation(
        "preview messages have no limit",
        PREVIEW_MESSAGES,
        "preview/sinks/sent_previews.py",
        "if self._cadence.wants(picture.index, picture.total):",
        "if True:",
        ("tests/preview/sinks/test_sent_previews.py",),
    ),
    Mutation(
        "the key stays in the address of the live page",
        LIVE_PAGE,
        "web/live-page.mjs",
        "    history.replaceState(null,",
        "    void (null,",
        VIEWER_MODULES,
    ),
    Mutation(
        "every browser may choose",
        CHOICES,
        "hosts/comfyui/choice_routes.py",
        "        if choice is None or choice.owner != owner:\n",
        "        if choice is None:\n",
        ("tests/hosts/comfyui/test_choice_routes.py",),
    ),
    Mutation(
        "every browser sees what there is to choose",
        CHOICES,
        "preview/choice.py",
        "each.owner == owner and place.items()",
        "place.items()",
        ("tests/preview/test_choice.py", "tests/hosts/comfyui/test_choice_routes.py"),
    ),
    # The page on InvokeAI's server
    Mutation(
        "InvokeAI's page is there with accounts too",
        INVOKEAI_PAGE,
        "hosts/invokeai/library_page.py",
        '    if getattr(config, "multiuser", False) is True:\n        return False\n',
        "",
        ("tests/hosts/invokeai/test_library_page.py",),
    ),
    Mutation(
        "pages of other sites may ask InvokeAI's page",
        INVOKEAI_PAGE,
        "hosts/library_app.py",
        '            await self._gate({**scope, "path": path or "/"}, receive, send)\n',
        '            await self._serve({**scope, "path": path or "/"}, receive, send)\n',
        ("tests/hosts/test_library_app.py",),
    ),
    Mutation(
        "the workflow of InvokeAI is not found in a picture",
        LIBRARY,
        "preview/images/metadata.py",
        'PNG_TEXTS = ("invokeai_workflow",)',
        "PNG_TEXTS = ()",
        ("tests/cli/test_view_library.py",),
    ),
    # Other accounts of the same InvokeAI
    Mutation(
        "all accounts share one folder",
        INVOKEAI_ACCOUNTS,
        "hosts/invokeai/output_paths.py",
        "    return outputs / USERS_FOLDER / user\n",
        "    return outputs / USERS_FOLDER\n",
        ("tests/hosts/invokeai/test_output_paths.py",),
    ),
    Mutation(
        "an account loads and continues the runs of another",
        INVOKEAI_ACCOUNTS,
        "hosts/invokeai/load_run.py",
        "    root = own_outputs(context).resolve()\n",
        "    root = Path(context.config.get().outputs_path).resolve()\n",
        ("tests/hosts/invokeai/test_saved_runs.py",),
    ),
    # What a report prints
    Mutation(
        "a report prints words of a prompt",
        REPORTS,
        "cli/private_text.py",
        "            return word in self._words\n",
        "            return False\n",
        ("tests/cli/test_private_text.py", "tests/cli/test_report.py"),
    ),
    Mutation(
        "a report prints the names of the user's account and machine",
        REPORTS,
        "cli/report.py",
        "*own, _account(), platform.node()}",
        "*own}",
        ("tests/cli/test_report.py",),
    ),
    Mutation(
        "a report prints any name in a run.json",
        REPORTS,
        "cli/report.py",
        '    return value if isinstance(value, str) and value in names else "other" if value else "none"\n',
        '    return str(value) if names else ""\n',
        ("tests/cli/test_report.py",),
    ),
    Mutation(
        "InvokeAI continues one step later than asked",
        ANY_STEP,
        "hosts/invokeai/continued_models.py",
        "    limit = math.floor(before)\n",
        "    limit = math.ceil(timestep)\n",
        ("tests/hosts/invokeai/test_saved_runs.py",),
    ),
    Mutation(
        "a continued run of InvokeAI that needs noise is rounded",
        ANY_STEP,
        "hosts/invokeai/continue_from_step.py",
        "zeros_like(latents) if level == 1 else rest / (1 - level)",
        "zeros_like(rest)",
        ("tests/hosts/invokeai/test_continued_models.py",),
    ),
    Mutation(
        "a node that would add noise to a continued run does so without a message",
        ANY_STEP,
        "hosts/invokeai/continued_inputs.py",
        "        needed = {START: begun.denoising_start, ADD_NOISE: begun.add_noise}\n",
        "        needed = {START: begun.denoising_start}\n",
        ("tests/hosts/invokeai/test_continued_models.py",),
    ),
    Mutation(
        "a refiner is an entry of the library beside its base",
        LIBRARY,
        "hosts/diffusers/watched_run.py",
        "        self._group = self._refined.group_of(self._call, begin)\n",
        "        self._group = None\n",
        ("tests/tiers/diffusers/test_refiner.py",),
    ),
    # The asset browser
    Mutation(
        "models have the picture of latents in the asset browser",
        YOUR_MODEL,
        "hosts/file_picture.py",
        '    return facts.get("format") == FORMAT or COMFY_TENSOR in tensors\n',
        "    return True\n",
        ("tests/hosts/test_file_picture.py",),
    ),
    # Fits with several processes
    Mutation(
        "a closed form of several processes knows the pictures of one",
        YOUR_MODEL,
        "fitting/presets.py",
        "train_sums, validation_sums = train_sums.of_all(processes), validation_sums.of_all(processes)",
        "pass",
        ("tests/fitting/test_shares.py::test_the_closed_form_is_that_of_one_process_to_rounding",),
    ),
    Mutation(
        "each process splits its own share of the pictures",
        YOUR_MODEL,
        "fitting/dataset.py",
        "    own = purposes[begin : begin + len(pairs)]\n",
        "    own = purposes[: len(pairs)]\n",
        ("tests/fitting/test_shares.py::test_the_split_is_that_of_one_process",),
    ),
    Mutation(
        "an interrupt of one process does not end the training of all",
        YOUR_MODEL,
        "fitting/processes.py",
        "        return bool(self.total(torch.tensor(int(self._is_interrupted))))\n",
        "        return bool(self.total(torch.tensor(0)))\n",
        ("tests/fitting/test_processes.py::test_an_interrupt_in_the_fit_waits_until_all_processes_agree",),
    ),
    Mutation(
        "a fit that lost a process leaves its decoders",
        YOUR_MODEL,
        "cli/fit.py",
        "        saved.remove()\n",
        "        pass\n",
        ("tests/cli/test_fit_together.py",),
    ),
    # Stores of runs
    Mutation(
        "files that a store does not take are named nowhere",
        RECORD,
        "preview/remote/uploads.py",
        "        self._report(self._names(), reason)\n        with self._changing:\n",
        "        with self._changing:\n",
        ("tests/preview/remote/test_uploads.py",),
    ),
    Mutation(
        "a record in a store lists files that are not there yet",
        RECORD,
        "preview/remote/uploads.py",
        "            waiting = [(name, change) for name, change in self._waiting.items() if name != MANIFEST_NAME]\n",
        "            waiting = list(self._waiting.items())[:1]\n",
        ("tests/preview/remote/test_uploads.py",),
    ),
    Mutation(
        "a file is added to the copy while the store is asked",
        LOW_COST,
        "preview/remote/uploads.py",
        "        with self._changing:\n            self._changes += 1\n",
        "        self._idle.wait()\n        with self._changing:\n            self._changes += 1\n",
        ("tests/preview/remote/test_uploads.py",),
    ),
    Mutation(
        "messages about a store contain the credentials",
        STORE_CREDENTIALS,
        "preview/remote/store.py",
        '        text = text.replace(secret, "***")\n',
        "        pass\n",
        ("tests/preview/remote/test_store.py",),
    ),
    Mutation(
        "an address with a password is taken",
        STORE_CREDENTIALS,
        "preview/remote/address.py",
        '    return bool(at) and ":" in user\n',
        "    return False\n",
        ("tests/preview/remote/test_address.py",),
    ),
    Mutation(
        "a name in a store may lead out of the temporary folder",
        HOSTILE_STORES,
        "preview/remote/remote_files.py",
        "        and (len(path.parts) == 1 or is_run_path(path.parent.as_posix()))\n",
        "",
        ("tests/preview/remote/test_remote_files.py",),
    ),
    Mutation(
        "a setting of a host may name a folder of this machine as a store",
        CHOSEN_STORES,
        "preview/remote/address.py",
        "    if scheme in LOCAL_SCHEMES:\n",
        "    if not scheme:\n",
        ("tests/preview/remote/test_remote_copy.py",),
    ),
    Mutation(
        "a small file of latents may claim any size",
        LATENTS_OF_OTHERS,
        "hosts/latents_input.py",
        "    if sum(values.numel() * values.element_size() for values in tensors.values()) > max_bytes:\n",
        "    if not max_bytes:\n",
        ("tests/hosts/test_file_picture.py",),
    ),
    Mutation(
        "a chain of addresses is taken",
        CHOSEN_STORES,
        "preview/remote/address.py",
        "    if CHAIN in rest:\n",
        "    if not CHAIN:\n",
        ("tests/preview/remote/test_address.py",),
    ),
    # In your language
    Mutation(
        "a page is in English in every browser",
        LANGUAGES,
        "web/page-language.mjs",
        "bestLanguage(wanted, Object.keys(languages))",
        "bestLanguage([], Object.keys(languages))",
        ("tests/preview/html/test_texts.py",),
    ),
    Mutation(
        "notes stay in English in every language",
        LANGUAGES,
        "web/sent-texts.mjs",
        "matched(english, rows) ?? joined(english, rows) ?? english",
        "english",
        ("tests/preview/html/test_texts.py", *VIEWER_MODULES),
    ),
    Mutation(
        "the help page is in English in every language",
        LANGUAGES,
        "hosts/comfyui/routes.py",
        """pack / "web/docs" / node / f"{language}.md", """,
        "",
        ("tests/hosts/comfyui/test_routes.py",),
    ),
)
