@echo off
rem Copyright (c) 2026, the hyperv.passthrough authors
rem GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
rem SPDX-License-Identifier: GPL-3.0-or-later
rem
rem An example for the engine "command" of hyperv.passthrough: Windows Server Backup, driven by a plain batch file. The same file
rem serves a Hyper-V host and a guest; docs/engines/command.md shows the options that call it. The target is a volume.
rem
rem   start    ANSWER RUN TARGET WHAT              WHAT: -hyperv:GUID, or "-include:VOLUME,VOLUME"
rem   list     ANSWER RUN TARGET ITEMS             ITEMS: what to look for in each version, a GUID or "S:,T:"
rem   restore  ANSWER RUN TARGET VERSION MACHINE ITEM ONTO     ONTO: a volume, or nothing for a VM
rem   stop     ANSWER RUN
rem
rem It does not care for several backups at once: wbadmin itself refuses a second one, and that is a failure here.
setlocal
goto %~1

:start
wbadmin start backup -backupTarget:%~4 %~5 -vssCopy -quiet
if not %errorlevel%==0 exit /b 1
set version=
for /f "tokens=1,* delims=:" %%a in ('wbadmin get versions -backupTarget:%~4 ^| findstr /r /c:"[0-9][0-9]/[0-9][0-9]/[0-9][0-9][0-9][0-9]-[0-9][0-9]:[0-9][0-9]"') do set version=%%b
if not defined version exit /b 1
set version=%version: =%
>"%~2" echo {"run_id":"%~3","version":"%version%"}
exit /b 0

:list
set comma=
>"%~2" echo {"run_id":"%~3","versions":[
for /f "tokens=1,* delims=:" %%a in ('wbadmin get versions -backupTarget:%~4 ^| findstr /r /c:"[0-9][0-9]/[0-9][0-9]/[0-9][0-9][0-9][0-9]-[0-9][0-9]:[0-9][0-9]"') do call :version %%b "%~2" %~4 "%~5"
>>"%~2" echo ]}
exit /b 0

:version
set v=%1
>>"%~2" echo %comma%{"version":"%v%","time":"%v:~6,4%-%v:~0,2%-%v:~3,2%T%v:~11,5%:00Z","items":[
set comma=,
set between=
for %%i in (%~4) do call :item %%i "%~2" %~3 %v%
>>"%~2" echo ]}
exit /b 0

:item
wbadmin get items -version:%4 -backupTarget:%3 | find /i "%~1" >nul
if not %errorlevel%==0 exit /b 0
>>"%~2" echo %between%"%~1"
set between=,
exit /b 0

:stop
wbadmin stop job -quiet
>"%~2" echo {"run_id":"%~3"}
exit /b 0

:restore
if "%~8"=="" (wbadmin start recovery -version:%~5 -itemType:HyperV -items:%~7 -backupTarget:%~4 -machine:%~6 -quiet) else (wbadmin start recovery -version:%~5 -itemType:Volume -items:%~7 -recoveryTarget:%~8 -backupTarget:%~4 -machine:%~6 -quiet)
if not %errorlevel%==0 exit /b 1
>"%~2" echo {"run_id":"%~3","version":"%~5"}
exit /b 0
