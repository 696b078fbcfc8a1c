// The requirements that OCI's tools know by code: their names, and why some have no point here. `report` refuses a code that
// has neither a point nor a reason, so that none is forgotten.
package main

import (
	"fmt"

	rspec "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-tools/specerror"
)

var codeNames = map[specerror.Code]string{
	specerror.ConfigInRootBundleDir:           "ConfigInRootBundleDir",
	specerror.ConfigConstName:                 "ConfigConstName",
	specerror.ArtifactsInSingleDir:            "ArtifactsInSingleDir",
	specerror.SpecVersionInSemVer:             "SpecVersionInSemVer",
	specerror.RootOnWindowsRequired:           "RootOnWindowsRequired",
	specerror.RootOnHyperVNotSet:              "RootOnHyperVNotSet",
	specerror.RootOnNonWindowsRequired:        "RootOnNonWindowsRequired",
	specerror.RootPathOnWindowsGUID:           "RootPathOnWindowsGUID",
	specerror.RootPathOnPosixConvention:       "RootPathOnPosixConvention",
	specerror.RootPathExist:                   "RootPathExist",
	specerror.RootReadonlyImplement:           "RootReadonlyImplement",
	specerror.RootReadonlyOnWindowsFalse:      "RootReadonlyOnWindowsFalse",
	specerror.MountsInOrder:                   "MountsInOrder",
	specerror.MountsDestAbs:                   "MountsDestAbs",
	specerror.MountsDestOnWindowsNotNested:    "MountsDestOnWindowsNotNested",
	specerror.MountsOptionsOnWindowsROSupport: "MountsOptionsOnWindowsROSupport",
	specerror.ProcRequiredAtStart:             "ProcRequiredAtStart",
	specerror.ProcConsoleSizeIgnore:           "ProcConsoleSizeIgnore",
	specerror.ProcCwdAbs:                      "ProcCwdAbs",
	specerror.ProcArgsOneEntryRequired:        "ProcArgsOneEntryRequired",
	specerror.PosixProcRlimitsTypeGenError:    "PosixProcRlimitsTypeGenError",
	specerror.PosixProcRlimitsTypeGet:         "PosixProcRlimitsTypeGet",
	specerror.PosixProcRlimitsTypeValueError:  "PosixProcRlimitsTypeValueError",
	specerror.PosixProcRlimitsSoftMatchCur:    "PosixProcRlimitsSoftMatchCur",
	specerror.PosixProcRlimitsHardMatchMax:    "PosixProcRlimitsHardMatchMax",
	specerror.PosixProcRlimitsErrorOnDup:      "PosixProcRlimitsErrorOnDup",
	specerror.LinuxProcCapError:               "LinuxProcCapError",
	specerror.LinuxProcOomScoreAdjSet:         "LinuxProcOomScoreAdjSet",
	specerror.LinuxProcOomScoreAdjNotSet:      "LinuxProcOomScoreAdjNotSet",
	specerror.PlatformSpecConfOnWindowsSet:    "PlatformSpecConfOnWindowsSet",
	specerror.PosixHooksPathAbs:               "PosixHooksPathAbs",
	specerror.PosixHooksTimeoutPositive:       "PosixHooksTimeoutPositive",
	specerror.PosixHooksCalledInOrder:         "PosixHooksCalledInOrder",
	specerror.PosixHooksStateToStdin:          "PosixHooksStateToStdin",
	specerror.PrestartTiming:                  "PrestartTiming",
	specerror.PoststartTiming:                 "PoststartTiming",
	specerror.PoststopTiming:                  "PoststopTiming",
	specerror.AnnotationsKeyValueMap:          "AnnotationsKeyValueMap",
	specerror.AnnotationsKeyString:            "AnnotationsKeyString",
	specerror.AnnotationsKeyRequired:          "AnnotationsKeyRequired",
	specerror.AnnotationsKeyReversedDomain:    "AnnotationsKeyReversedDomain",
	specerror.AnnotationsKeyReservedNS:        "AnnotationsKeyReservedNS",
	specerror.AnnotationsKeyIgnoreUnknown:     "AnnotationsKeyIgnoreUnknown",
	specerror.AnnotationsValueString:          "AnnotationsValueString",
	specerror.ExtensibilityIgnoreUnknownProp:  "ExtensibilityIgnoreUnknownProp",
	specerror.ValidValues:                     "ValidValues",
	specerror.DefaultFilesystems:              "DefaultFilesystems",
	specerror.NSPathAbs:                       "NSPathAbs",
	specerror.NSProcInPath:                    "NSProcInPath",
	specerror.NSPathMatchTypeError:            "NSPathMatchTypeError",
	specerror.NSNewNSWithoutPath:              "NSNewNSWithoutPath",
	specerror.NSInheritWithoutType:            "NSInheritWithoutType",
	specerror.NSErrorOnDup:                    "NSErrorOnDup",
	specerror.UserNSMapOwnershipRO:            "UserNSMapOwnershipRO",
	specerror.DevicesAvailable:                "DevicesAvailable",
	specerror.DevicesFileNotMatch:             "DevicesFileNotMatch",
	specerror.DevicesMajMinRequired:           "DevicesMajMinRequired",
	specerror.DevicesErrorOnDup:               "DevicesErrorOnDup",
	specerror.DefaultDevices:                  "DefaultDevices",
	specerror.CgroupsPathAbsOrRel:             "CgroupsPathAbsOrRel",
	specerror.CgroupsAbsPathRelToMount:        "CgroupsAbsPathRelToMount",
	specerror.CgroupsPathAttach:               "CgroupsPathAttach",
	specerror.CgroupsPathError:                "CgroupsPathError",
	specerror.DevicesApplyInOrder:             "DevicesApplyInOrder",
	specerror.BlkIOWeightOrLeafWeightExist:    "BlkIOWeightOrLeafWeightExist",
	specerror.IntelRdtPIDWrite:                "IntelRdtPIDWrite",
	specerror.IntelRdtNoMountedResctrlError:   "IntelRdtNoMountedResctrlError",
	specerror.NotManipResctrlWithoutIntelRdt:  "NotManipResctrlWithoutIntelRdt",
	specerror.IntelRdtL3CacheSchemaWrite:      "IntelRdtL3CacheSchemaWrite",
	specerror.IntelRdtL3CacheSchemaNotWrite:   "IntelRdtL3CacheSchemaNotWrite",
	specerror.SeccSyscallsNamesRequired:       "SeccSyscallsNamesRequired",
	specerror.MaskedPathsAbs:                  "MaskedPathsAbs",
	specerror.ReadonlyPathsAbs:                "ReadonlyPathsAbs",
	specerror.EntityOperSameContainer:         "EntityOperSameContainer",
	specerror.StateIDUniq:                     "StateIDUniq",
	specerror.StateNewStatus:                  "StateNewStatus",
	specerror.DefaultStateJSONPattern:         "DefaultStateJSONPattern",
	specerror.EnvCreateImplement:              "EnvCreateImplement",
	specerror.EnvCreateError:                  "EnvCreateError",
	specerror.ProcNotRunAtResRequest:          "ProcNotRunAtResRequest",
	specerror.ConfigUpdatesWithoutAffect:      "ConfigUpdatesWithoutAffect",
	specerror.PrestartHooksInvoke:             "PrestartHooksInvoke",
	specerror.PrestartHookFailGenError:        "PrestartHookFailGenError",
	specerror.ProcImplement:                   "ProcImplement",
	specerror.PoststartHooksInvoke:            "PoststartHooksInvoke",
	specerror.PoststartHookFailGenWarn:        "PoststartHookFailGenWarn",
	specerror.UndoCreateSteps:                 "UndoCreateSteps",
	specerror.PoststopHooksInvoke:             "PoststopHooksInvoke",
	specerror.PoststopHookFailGenWarn:         "PoststopHookFailGenWarn",
	specerror.ErrorsLeaveStateUnchange:        "ErrorsLeaveStateUnchange",
	specerror.WarnsLeaveFlowUnchange:          "WarnsLeaveFlowUnchange",
	specerror.DefaultOperations:               "DefaultOperations",
	specerror.QueryWithoutIDGenError:          "QueryWithoutIDGenError",
	specerror.QueryNonExistGenError:           "QueryNonExistGenError",
	specerror.QueryStateImplement:             "QueryStateImplement",
	specerror.CreateWithBundlePathAndID:       "CreateWithBundlePathAndID",
	specerror.CreateWithUniqueID:              "CreateWithUniqueID",
	specerror.CreateNewContainer:              "CreateNewContainer",
	specerror.PropsApplyExceptProcOnCreate:    "PropsApplyExceptProcOnCreate",
	specerror.ProcArgsApplyUntilStart:         "ProcArgsApplyUntilStart",
	specerror.PropApplyFailGenError:           "PropApplyFailGenError",
	specerror.PropApplyFailNotCreate:          "PropApplyFailNotCreate",
	specerror.StartWithoutIDGenError:          "StartWithoutIDGenError",
	specerror.StartNotCreatedHaveNoEffect:     "StartNotCreatedHaveNoEffect",
	specerror.StartNotCreatedGenError:         "StartNotCreatedGenError",
	specerror.StartProcImplement:              "StartProcImplement",
	specerror.StartWithProcUnsetGenError:      "StartWithProcUnsetGenError",
	specerror.KillWithoutIDGenError:           "KillWithoutIDGenError",
	specerror.KillNonCreateRunHaveNoEffect:    "KillNonCreateRunHaveNoEffect",
	specerror.KillNonCreateRunGenError:        "KillNonCreateRunGenError",
	specerror.KillSignalImplement:             "KillSignalImplement",
	specerror.DeleteWithoutIDGenError:         "DeleteWithoutIDGenError",
	specerror.DeleteNonStopHaveNoEffect:       "DeleteNonStopHaveNoEffect",
	specerror.DeleteNonStopGenError:           "DeleteNonStopGenError",
	specerror.DeleteResImplement:              "DeleteResImplement",
	specerror.DeleteOnlyCreatedRes:            "DeleteOnlyCreatedRes",
	specerror.DefaultRuntimeLinuxSymlinks:     "DefaultRuntimeLinuxSymlinks",
	specerror.WindowsLayerFoldersRequired:     "WindowsLayerFoldersRequired",
	specerror.WindowsHyperVPresent:            "WindowsHyperVPresent",
	specerror.WindowsHyperVOmit:               "WindowsHyperVOmit",
}

var withoutPoint = map[string]string{
	"PlatformSpecConfOnWindowsSet":    "Windows",
	"RootOnWindowsRequired":           "Windows",
	"RootOnHyperVNotSet":              "Windows",
	"RootPathOnWindowsGUID":           "Windows",
	"RootReadonlyOnWindowsFalse":      "Windows",
	"MountsDestAbs":                   "newer versions (1.0.2) want relative destinations taken from the root",
	"MountsDestOnWindowsNotNested":    "Windows",
	"MountsOptionsOnWindowsROSupport": "Windows",
	"LinuxProcCapError":               "newer versions (1.1) want a warning",
	"PrestartTiming":                  "replaced: later versions (1.0.2) want prestart hooks before create returns",
	"AnnotationsKeyString":            "JSON has no other keys",
	"AnnotationsKeyReversedDomain":    "a SHOULD for who writes a bundle",
	"AnnotationsKeyReservedNS":        "for later versions of the specification",
	"DevicesErrorOnDup":               "a SHOULD NOT for who writes a bundle",
	"CgroupsPathAbsOrRel":             "every string is one or the other",
	"CgroupsPathError":                "a MAY: no value is invalid for every runtime",
	"BlkIOWeightOrLeafWeightExist":    "for who writes a bundle; the kernel has no leaf_weight any more",
	"IntelRdtPIDWrite":                "needs a processor with resource control",
	"NotManipResctrlWithoutIntelRdt":  "needs a processor with resource control",
	"IntelRdtL3CacheSchemaWrite":      "needs a processor with resource control",
	"IntelRdtL3CacheSchemaNotWrite":   "needs a processor with resource control",
	"StateNewStatus":                  "about statuses that a runtime adds",
	"PoststartHookFailGenWarn":        "replaced: later versions (1.2) want an error of start",
	"WarnsLeaveFlowUnchange":          "seen in the points where a warning is logged",
	"DefaultOperations":               "the sum of the other points",
	"WindowsLayerFoldersRequired":     "Windows",
	"WindowsHyperVPresent":            "Windows",
	"WindowsHyperVOmit":               "Windows",
}

// registered are all codes that the installed library knows.
func registered() []specerror.Code {
	var all []specerror.Code
	for _, base := range []int64{0xa001, 0xb001, 0xc001, 0xd001, 0xe001, 0xf001} {
		for i := int64(0); i < 256; i++ {
			if code := specerror.Code(base + i); known(code) {
				all = append(all, code)
			}
		}
	}
	return all
}

// A code that is not registered has a template without functions.
func known(code specerror.Code) (known bool) {
	defer func() {
		if recover() != nil {
			known = false
		}
	}()
	_, err := specerror.NewRFCError(code, nil, rspec.Version)
	return err == nil
}

// codes lists the requirements that have no point, with the reason.
func codes([]string) int {
	for _, code := range registered() {
		if reason := withoutPoint[codeNames[code]]; reason != "" {
			fmt.Printf("%-34s %s\n", codeNames[code], reason)
		}
	}
	return 0
}
